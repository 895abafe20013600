"""A model that gets keys and asks a real Feast for the rest."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from starlette.testclient import TestClient

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.serving.answers import Scorer
from airflow_mlops_provider.serving.counters import Counters
from airflow_mlops_provider.serving.feature_store import open_feature_store
from airflow_mlops_provider.serving.online import FEATURE_SERVICE_TAG, online_features
from airflow_mlops_provider.serving.prediction_log import PredictionLog, read_segments
from airflow_mlops_provider.serving.scorer_app import build_app
from airflow_mlops_provider.serving.scoring import Predictor
from airflow_mlops_provider.steps import register
from airflow_mlops_provider.steps.features.materialize import materialize
from airflow_mlops_provider.steps.features.repo import apply_features
from tests.feast_repos import DEFINITIONS, START, write_repo

INPUTS = ["temp", "doubled", "hour"]
ON_DEMAND = """
import pandas as pd
from feast import RequestSource
from feast.on_demand_feature_view import on_demand_feature_view

asked = RequestSource(name="asked", schema=[Field(name="factor", dtype=Float64)])

@on_demand_feature_view(
    sources=[weather, asked], schema=[Field(name="doubled", dtype=Float64)], mode="pandas"
)
def double(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({{"doubled": rows["temp"] * rows["factor"]}})

derived = FeatureService(name="derived", features=[weather, double])
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A workspace with a repository that was applied and materialized."""
    root = tmp_path_factory.mktemp("ws")
    repo = write_repo(root / "repo", definitions=DEFINITIONS + ON_DEMAND)
    store = open_feature_store(Path(repo), str(root))
    apply_features(store, repo)
    end = START.to_pydatetime().replace(month=3)
    materialize(
        store, ["weather"], START.to_pydatetime(), end, now=datetime(2014, 1, 1, tzinfo=UTC)
    )
    return root


def predictor(workspace: Path, inputs=INPUTS) -> Predictor:
    schema = Schema([ColSpec("double", name) for name in inputs])
    model = SimpleNamespace(
        predict=lambda frame: np.nan_to_num(frame["temp"].to_numpy(), nan=-1.0),
        metadata=SimpleNamespace(signature=ModelSignature(inputs=schema)),
    )
    found = Predictor(model)
    repo = str(workspace / "repo")
    found.online = online_features(repo, "derived", "models:/m/1", workspace, inputs)
    return found


def asked(found: Predictor, payload: dict):
    return found.score("application/json", json.dumps(payload).encode())


ROWS = [{"origin": "JFK", "factor": 2.0, "hour": 6}, {"origin": "nowhere", "factor": 2, "hour": 7}]


@pytest.mark.parametrize(
    "payload",
    [
        {"entities": ROWS},
        {"entities": {name: [row[name] for row in ROWS] for name in ROWS[0]}},
        {"dataframe_records": ROWS},
        {
            "dataframe_split": {
                "columns": [*ROWS[0]],
                "data": [[*row.values()] for row in ROWS],
            }
        },
    ],
)
def test_keys_are_completed_and_an_unknown_entity_has_no_features(workspace, payload):
    found = asked(predictor(workspace), payload)
    assert found.error is None
    known, unknown = found.rows
    assert known["temp"] == pytest.approx(found.outputs[0])
    assert known["doubled"] == pytest.approx(2 * known["temp"])
    assert (known["origin"], known["hour"]) == ("JFK", 6.0)
    assert (unknown["temp"], unknown["doubled"], found.outputs[1]) == (None, None, -1.0)


def test_a_request_with_its_features_is_not_looked_up(workspace):
    row = {"temp": 5.0, "doubled": 1.0, "hour": 3.0}
    found = asked(predictor(workspace), {"dataframe_records": [row]})
    assert (found.rows, found.outputs) == ([row], [5.0])


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        ([{"origin": "JFK"}], "Expected entities with"),
        ([{**ROWS[0], "more": 1}], "'more'"),
        ([{**ROWS[0], "origin": 5}], "key origin to be a str"),
        ([{**ROWS[0], "origin": None}], "key origin to be a str"),
        ([], "rows or columns"),
        (5, "rows or columns"),
        ({"origin": ["JFK", "EWR"], "factor": [1.0], "hour": 1}, "rows or columns"),
    ],
)
def test_entities_that_lack_something_are_the_clients_to_correct(workspace, entities, message):
    found = asked(predictor(workspace), {"entities": entities})
    assert found.error.status == 400
    assert message in str(found.error)


def test_a_store_that_is_down_is_nobodys_fault_here(workspace, tmp_path):
    broken = predictor(workspace)
    store = broken.online.store
    path = Path(store.config.online_store.path)
    shutil.copy(path, tmp_path / "kept.db")
    scorer = Scorer(
        endpoint="e",
        deployment="v1",
        model_uri="models:/m/1",
        predictor=broken,
        log=PredictionLog(tmp_path / "logs", "v1"),
        counters=Counters(tmp_path / "counters"),
    )
    with TestClient(build_app(scorer)) as client:
        assert client.post("/invocations", json={"entities": ROWS}).status_code == 200
        store._get_provider().online_store._conn.close()  # as if the service went away
        answer = client.post("/invocations", json={"entities": ROWS})
    assert answer.status_code == 503
    assert "online store does not answer" in answer.json()["message"]
    counts = scorer.counters.read()
    assert (counts["requests"], counts["errors"]) == (1, 0)
    *_, last = read_segments(scorer.log.folder)
    assert (last["status"], last["error_class"]) == (503, "FeatureStoreUnavailable")
    assert last["inputs"]["origin"] == "nowhere"


def test_what_cannot_be_looked_up_is_named_at_the_start(workspace):
    repo = str(workspace / "repo")

    def opened(service="derived", uri="models:/m-1", inputs=INPUTS, repo=repo):
        return online_features(repo, service, uri, workspace, inputs)

    with pytest.raises(DataError, match="feature service 'other'"):
        opened("other")
    with pytest.raises(DataError, match="No file"):
        opened(repo=str(workspace))
    with pytest.raises(ModelError, match="give some of"):
        opened(inputs=["hour"])
    with pytest.raises(ModelError, match="names its inputs"):
        opened(inputs=None)
    with pytest.raises(ParameterError, match="feature_service parameter"):
        opened(None)


def test_the_tag_is_the_one_that_registration_writes():
    assert FEATURE_SERVICE_TAG == register.FEATURE_SERVICE_TAG
