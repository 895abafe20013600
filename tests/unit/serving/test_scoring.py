from __future__ import annotations

import json
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

from airflow_mlops_provider.serving.rows import to_rows
from airflow_mlops_provider.serving.scoring import INVALID_INPUT, OUTPUT_VIOLATION, Predictor

INPUTS = Schema([ColSpec("double", "x"), ColSpec("string", "s")])
NUMBERS = Schema([TensorSpec(np.dtype("float64"), (-1,))])
GOOD = {"dataframe_records": [{"x": 1.5, "s": "a"}, {"x": 2.5, "s": "b"}]}


def model_of(predict=lambda data: np.asarray(data["x"]) * 2, outputs=NUMBERS):
    signature = ModelSignature(inputs=INPUTS, outputs=outputs)
    return SimpleNamespace(predict=predict, metadata=SimpleNamespace(signature=signature))


def scored(payload, **options):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Predictor(model_of(**options)).score("application/json", body)


@pytest.mark.parametrize(
    "payload",
    [
        GOOD,
        {"dataframe_split": {"columns": ["x", "s"], "data": [[1.5, "a"], [2.5, "b"]]}},
        {"instances": [{"x": 1.5, "s": "a"}, {"x": 2.5, "s": "b"}]},
        {"inputs": {"x": [1.5, 2.5], "s": ["a", "b"]}},
    ],
)
def test_every_form_of_the_protocol_is_understood(payload):
    found = scored(payload)
    assert found.error is None
    assert found.outputs == [3.0, 5.0]
    assert found.rows == [{"x": 1.5, "s": "a"}, {"x": 2.5, "s": "b"}]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"{", "JSON object"),
        ([1], "exactly one of"),
        ({}, "exactly one of"),
        ({"rows": []}, "got rows"),
        ({**GOOD, "params": {"k": 1}}, "names among []"),
        ({**GOOD, "inputs": {}}, "exactly one of"),
        ({"dataframe_records": []}, "at least one row"),
        ({"dataframe_records": [{"x": 1.0}]}, "s"),
        ({"dataframe_records": [{"x": "one", "s": "a"}]}, "x"),
        ({"dataframe_records": 5}, "list of records"),
    ],
)
def test_what_the_client_got_wrong_is_a_400(payload, message):
    found = scored(payload)
    assert (found.error.status, found.error.error_class) == (400, INVALID_INPUT)
    assert message in str(found.error)
    assert found.outputs is None
    assert len(found.rows) == 1


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b'{"inputs": {"a": [1, 2], "b": [1]}}', b'{"inputs": 5}'],
)
def test_input_that_is_no_table_is_a_400_also_without_a_signature(body):
    model = SimpleNamespace(predict=None, metadata=SimpleNamespace(signature=None))
    assert Predictor(model).score("application/json", body).error.status == 400


@pytest.mark.parametrize("content_type", ["text/csv", "text/csv; charset=UTF-8"])
def test_csv_is_understood(content_type):
    found = Predictor(model_of()).score(content_type, "x,s\n1,ä\n,b\n".encode())
    assert found.error is None or "output" in str(found.error)
    assert found.rows == [{"x": 1.0, "s": "ä"}, {"x": None, "s": "b"}]


@pytest.mark.parametrize(
    "content_type", ["application/xml", "text/csv; charset=latin-1", "application/json; v=2"]
)
def test_other_content_is_refused_as_such(content_type):
    assert Predictor(model_of()).score(content_type, b"{}").error.status == 415


def test_what_the_model_raises_is_its_own_failure():
    def fail(data):
        raise ZeroDivisionError("by zero")

    found = scored(GOOD, predict=fail)
    assert (found.error.status, found.error.error_class) == (500, "ZeroDivisionError")
    assert found.error.body["error_code"] == "INTERNAL_ERROR"
    assert len(found.rows) == 2


@pytest.mark.parametrize(
    "output",
    [
        np.array(["a", "b"]),
        np.array([1.0]),
        np.array([[1.0], [2.0]]),
        np.array([1.0, np.nan]),
        np.array([1.0, np.inf]),
        None,
    ],
)
def test_output_that_breaks_its_promise_is_a_500(output):
    found = scored(GOOD, predict=lambda data: output)
    assert (found.error.status, found.error.error_class) == (500, OUTPUT_VIOLATION)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (np.array([[0.1, 0.9], [0.8, 0.2]]), [[0.1, 0.9], [0.8, 0.2]]),
        (pd.Series([1, 2]), [1, 2]),
        (pd.DataFrame({"p": [0.5, 0.25]}), [{"p": 0.5}, {"p": 0.25}]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_outputs_become_one_json_value_a_row(output, expected):
    assert scored(GOOD, predict=lambda data: output, outputs=None).outputs == expected


def test_rows_hold_json_values_only():
    frame = pd.DataFrame(
        {
            "t": pd.to_datetime(["2013-01-01T05:00", None]),
            "x": [np.nan, 1.0],
            "n": np.array([1, 2], dtype="int32"),
            "v": [np.array([1.0, np.inf]), [True]],
            "d": [{"a": np.nan}, {}],
        }
    )
    assert to_rows(frame) == [
        {"t": "2013-01-01T05:00:00", "x": None, "n": 1, "v": [1.0, None], "d": {"a": None}},
        {"t": None, "x": 1.0, "n": 2, "v": [True], "d": {}},
    ]
    assert to_rows(np.array([[1, 2]])) == [{"0": 1, "1": 2}]


def with_params(given):
    seen = []

    def predict(data, params=None):
        seen.append(params)
        return np.ones(len(data))

    model = model_of(predict)
    model.metadata.signature = ModelSignature(
        inputs=INPUTS, params=ParamSchema([ParamSpec("k", "long", 3), ParamSpec("t", "string", "")])
    )
    body = json.dumps({**GOOD, "params": given}).encode()
    return Predictor(model).score("application/json", body), seen


def test_params_reach_a_model_whose_signature_has_them():
    found, seen = with_params({"k": 5})
    assert found.error is None
    assert seen == [{"k": 5}]


@pytest.mark.parametrize("given", [{"k": "five"}, {"m": 1}, [5], {"k": [1]}])
def test_params_beyond_the_signature_are_the_clients_mistake(given):
    found, seen = with_params(given)
    assert (found.error.status, seen) == (400, [])


def test_parquet_is_understood():
    file = BytesIO()
    pd.DataFrame({"x": [1.5], "s": ["a"]}).to_parquet(file)
    found = Predictor(model_of()).score("application/vnd.apache.parquet", file.getvalue())
    assert (found.outputs, found.rows) == ([3.0], [{"x": 1.5, "s": "a"}])
