"""A real MLflow store in SQLite, and small datasets, shared by the tests of the steps."""

from __future__ import annotations

import re

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeClassifier

from airflow_mlops_provider.steps.snapshot import write_dataset
from airflow_mlops_provider.steps.track import experiment_id, start_pipeline_run, task_run
from tests.training import train

PIPELINE = {"airflow.dag_id": "a_dag", "airflow.run_id": "run's 1"}


@pytest.fixture(scope="session")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    found = mlflow.MlflowClient(uri, uri)
    experiment_id(found, "a_dag", str(folder / "artifacts"))
    return found


@pytest.fixture
def experiment(client):
    return experiment_id(client, "a_dag", None)


@pytest.fixture
def run(client, experiment, request):
    start_pipeline_run(client, experiment, PIPELINE, name="run", extra_tags={})
    with task_run(
        client, experiment, PIPELINE, {"airflow.task_id": request.node.name}, "task"
    ) as opened:
        yield opened


def frame_of(rows: int, seed: int = 0, noise: float = 1.0) -> pd.DataFrame:
    """Rows whose ``late`` depends on ``hour`` and ``origin``, oldest first."""
    rng = np.random.default_rng(seed)
    hour, origin = rng.normal(size=rows), rng.choice(["EWR", "JFK"], rows)
    late = hour + (origin == "EWR") + rng.normal(scale=noise, size=rows) > 0.5
    return pd.DataFrame(
        {
            "time": pd.date_range("2013-01-01", periods=rows, freq="min", tz="UTC"),
            "hour": hour,
            "origin": origin,
            "late": late.astype(float),
        }
    )


@pytest.fixture
def dataset(tmp_path):
    frame = frame_of(1_000)
    frame.loc[:9, "late"] = None
    return write_dataset(frame, "flights", str(tmp_path), "test")


@pytest.fixture
def holdout(tmp_path):
    return write_dataset(frame_of(1_000, seed=1), "holdout", str(tmp_path), "test")


@pytest.fixture
def name(request):
    """A name in the registry that no other test uses, with what needs care in a search."""
    return re.sub(r"\W+", " ", request.node.name) + "'s model"


@pytest.fixture
def models(client, experiment, dataset, request):
    """Three models that nobody registered yet, each of a task of its own."""
    start_pipeline_run(client, experiment, PIPELINE, name="run", extra_tags={})

    def trained(number):
        task = {"airflow.task_id": f"{request.node.name} {number}"}
        with task_run(client, experiment, PIPELINE, task, "task") as opened:
            return train(
                dataset, DecisionTreeClassifier, run=opened, features=["hour"], target="late"
            )

    return [trained(number) for number in range(3)]
