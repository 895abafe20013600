"""The suite of the example and that of docs/behavioural-tests.md, on a model of real flights."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.models import infer_signature

from airflow_mlops_provider.operators import CheckModelBehaviourOperator
from airflow_mlops_provider.steps.behaviour import check
from airflow_mlops_provider.steps.snapshot import write_dataset
from flights.columns import FEATURES, TARGET, TIME
from flights.features import build_feature_sources
from flights.model import delay_classifier

ROOT = Path(__file__).resolve().parents[3]
DOCS = (ROOT / "docs" / "behavioural-tests.md").read_text()
SUITES = {
    "example": str(ROOT / "dags" / "flights" / "behaviour.yaml"),
    "docs": yaml.safe_load(re.search(r"```yaml\n(.*?)```", DOCS, re.DOTALL)[1]),
}


@pytest.fixture(scope="module")
def flights(landed):
    """Flights of three months with their features, joined as of each decision, oldest first."""
    months = Path(landed, "landing", "flights").glob("*.parquet")
    rows = pd.concat(map(pd.read_parquet, months)).sort_values(TIME)
    rows = rows[rows[TARGET].notna()].iloc[::5].astype({TIME: "datetime64[us, UTC]"})
    keys = (["origin"], ["origin", "dest", "carrier"], ["tailnum"])
    for uri, by in zip(build_feature_sources(landed), keys, strict=True):
        view = pd.read_parquet(uri).sort_values(TIME).astype({TIME: "datetime64[us, UTC]"})
        rows = pd.merge_asof(rows, view, on=TIME, by=by)
    return rows[[*FEATURES, TARGET]].astype(
        dict.fromkeys(["distance", "dep_hour", "day_of_week"], float)
    )


@pytest.fixture(scope="module")
def model(flights, tmp_path_factory):
    rows = flights[FEATURES].head(int(len(flights) * 0.8))
    fitted = delay_classifier(max_iter=60).fit(rows, flights[TARGET].head(len(rows)).astype(int))
    path = str(tmp_path_factory.mktemp("model") / "model")
    mlflow.sklearn.save_model(
        fitted,
        path,
        signature=infer_signature(rows, np.zeros((1, 2))),
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
        pip_requirements=[],
    )
    return mlflow.pyfunc.load_model(path)


@pytest.fixture
def report(flights, tmp_path, monkeypatch):
    dataset = write_dataset(flights.tail(len(flights) // 5), "test", str(tmp_path), "test")

    def run(model, suite):
        monkeypatch.setattr(check, "load_model", lambda uri: model)
        return check.check_behaviour("models:/m/1", dataset, suite, workspace=str(tmp_path)).report

    return run


@pytest.mark.parametrize("suite", SUITES)
def test_a_sound_model_passes_every_test(model, report, suite):
    found = report(model, SUITES[suite])
    assert [(each.name, each.detail) for each in found.tests if each.outcome != "passed"] == []


@pytest.mark.parametrize("suite", SUITES)
def test_a_model_that_leaves_the_range_fails(model, report, suite):
    class Broken:
        metadata = model.metadata

        def predict(self, frame):
            return 1.2 * model.predict(frame) + frame[["precip"]].isna().to_numpy()

    found = report(Broken(), SUITES[suite])
    assert found.outcome == "failed"
    assert found.n_errored == 0


def test_the_dag_of_the_page_is_one():
    found = {}
    exec(re.search(r"```python\n(.*?)```", DOCS, re.DOTALL)[1], found)  # noqa: S102 - our own page
    assert isinstance(found["behaviour"], CheckModelBehaviourOperator)
