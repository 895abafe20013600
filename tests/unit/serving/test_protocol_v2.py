from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from starlette.testclient import TestClient

from airflow_mlops_provider.serving.answers import Scorer
from airflow_mlops_provider.serving.counters import Counters
from airflow_mlops_provider.serving.prediction_log import PredictionLog, read_segments
from airflow_mlops_provider.serving.protocol_v2 import Inference, metadata
from airflow_mlops_provider.serving.scorer_app import build_app
from airflow_mlops_provider.serving.scoring import Predictor, ScoringError

COLUMNS = Schema([ColSpec("double", "x"), ColSpec("string", "s"), ColSpec("long", "n")])
NUMBERS = Schema([TensorSpec(np.dtype("float64"), (-1, 2))])
SIGNATURE = ModelSignature(inputs=COLUMNS, outputs=NUMBERS)
TENSOR = Schema([TensorSpec(np.dtype("float32"), (-1, 2))])


def tensor(name="x", datatype="FP64", shape=(2,), data=(1.5, None)):
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": list(data)}


GOOD = [
    tensor(),
    tensor("s", "BYTES", (2, 1), ["a", "b"]),
    tensor("n", "INT64", (2,), [1, 2]),
]


def payload(tensors, inputs=COLUMNS, **more):
    return Inference(json.dumps({"inputs": tensors, **more}).encode(), inputs).payload


def test_one_column_tensors_are_a_table():
    split = payload(GOOD)["dataframe_split"]
    assert split["columns"] == ["x", "s", "n"]
    assert split["data"][0] == [1.5, "a", 1]
    assert np.isnan(split["data"][1][0])


@pytest.mark.parametrize("data", [[[1, 2], [3, 4]], [1, 2, 3, 4]])
def test_a_tensor_model_gets_an_array_nested_or_flat(data):
    given = [tensor("any", "FP32", (2, 2), data)]
    assert payload(given, TENSOR) == {"inputs": [[1.0, 2.0], [3.0, 4.0]]}


def test_without_a_signature_the_content_type_decides():
    one = [tensor(data=[1, 2])]
    assert payload(one, None) == {"inputs": [1.0, 2.0]}
    assert "dataframe_split" in payload(one, None, parameters={"content_type": "pd"})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (None, "list of tensors"),
        ([], "list of tensors"),
        ([5], "name, datatype, shape and data"),
        ([tensor(datatype="FP8")], "datatype of 'x'"),
        ([tensor(shape=(3,))], "3 values"),
        ([tensor(shape=(-2,))], "shape of 'x'"),
        ([tensor(shape=(2, 1, 1, 2), data=[1, 2, 3, 4])], "to be a column"),
        ([tensor(data=["1", "2"])], "values of FP64"),
        ([tensor(datatype="INT8", data=[1.5, 2])], "values of INT8"),
        ([tensor(datatype="INT8", data=[1, 200])], "values of INT8"),
        ([tensor(datatype="UINT8", data=[1, -1])], "values of UINT8"),
        ([tensor(datatype="BOOL", data=[1, 0])], "values of BOOL"),
        ([{**tensor(), "data": 5}], "to be a list"),
        ([tensor(), tensor()], "name of its own"),
        ([tensor(), tensor("n", "INT64", (1,), [1])], "one length"),
    ],
)
def test_what_is_no_tensor_is_named(tensors, message):
    with pytest.raises(ScoringError, match=message) as caught:
        payload(tensors)
    assert caught.value.status == 400


def test_metadata_describes_both_sides():
    assert metadata("m", "3", SIGNATURE) == {
        "name": "m",
        "versions": ["3"],
        "platform": "mlflow",
        "inputs": [
            {"name": "x", "datatype": "FP64", "shape": [-1]},
            {"name": "s", "datatype": "BYTES", "shape": [-1]},
            {"name": "n", "datatype": "INT64", "shape": [-1]},
        ],
        "outputs": [{"name": "predictions", "datatype": "FP64", "shape": [-1, 2]}],
    }
    assert metadata("m", "3", None)["inputs"] == []


@pytest.fixture
def client(tmp_path, request):
    signature, predict = getattr(
        request, "param", (SIGNATURE, lambda data: np.full((len(data), 2), 0.5))
    )
    model = SimpleNamespace(predict=predict, metadata=SimpleNamespace(signature=signature))
    scorer = Scorer(
        endpoint="e",
        deployment="v1",
        model_uri="models:/m/3",
        predictor=Predictor(model),
        log=PredictionLog(tmp_path / "logs", "v1"),
        counters=Counters(tmp_path / "counters"),
    )
    with TestClient(build_app(scorer)) as found:
        found.scorer = scorer
        yield found


def test_inference_is_answered_logged_and_counted(client):
    asked = {"id": "7", "inputs": GOOD}
    answer = client.post("/v2/models/e/infer", json=asked, headers={"x-request-id": "r"})
    assert answer.json() == {
        "model_name": "e",
        "model_version": "3",
        "id": "7",
        "outputs": [
            {
                "name": "predictions",
                "datatype": "FP64",
                "shape": [2, 2],
                "data": [0.5, 0.5, 0.5, 0.5],
            }
        ],
    }
    client.post("/logs/rotate")
    first, second = read_segments(client.scorer.log.folder)
    assert (first["request_id"], second["row"]) == ("r", 1)
    assert first["inputs"] == {"x": 1.5, "s": "a", "n": 1}
    assert second["inputs"]["x"] is None
    assert client.scorer.counters.read()["scored"] == 2


def frame(data):
    return pd.DataFrame({"label": ["a"] * len(data), "p": 0.5})


@pytest.mark.parametrize("client", [(ModelSignature(inputs=COLUMNS), frame)], indirect=True)
def test_a_frame_is_a_tensor_per_column_of_which_some_may_be_asked_for(client):
    both = client.post("/v2/models/e/infer", json={"inputs": GOOD}).json()["outputs"]
    kinds = {each["name"]: each["datatype"] for each in both}
    assert kinds == {"label": "BYTES", "p": "FP64"}
    asked = {"inputs": GOOD, "outputs": [{"name": "p"}]}
    (one,) = client.post("/v2/models/e/infer", json=asked).json()["outputs"]
    assert (one["name"], one["data"]) == ("p", [0.5, 0.5])
    asked = {"inputs": GOOD, "outputs": [{"name": "q"}]}
    answer = client.post("/v2/models/e/infer", json=asked)
    assert answer.status_code == 400
    assert "'q'" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/e/ready", {"name": "e", "ready": True}),
    ],
)
def test_probes_of_the_protocol_answer(client, path, told):
    assert client.get(path).json() == told
    assert client.get("/v2/models/e").json()["versions"] == ["3"]
    assert client.get("/v2").json()["name"] == "airflow-mlops"


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/other/ready"])
def test_another_model_is_not_found(client, path):
    assert client.get(path).status_code == 404
    assert client.post("/v2/models/other/infer", json={}).status_code == 404


def test_a_clients_mistake_and_a_models_differ(client):
    assert client.post("/v2/models/e/infer", json={"inputs": GOOD[:1]}).status_code == 400
    client.scorer.predictor.model.predict = lambda data: None
    answer = client.post("/v2/models/e/infer", json={"inputs": GOOD})
    assert answer.status_code == 500
    assert [*answer.json()] == ["error"]
