"""The page on training: its function runs as it stands there, and its YAML builds a Pipeline."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from airflow_mlops_provider.steps.estimators import build_estimator

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text()
TEAM = """
import mlflow, numpy, pandas

from airflow_mlops_provider.records import DatasetRef
from airflow_mlops_provider.steps.snapshot import read_dataset


class Net(mlflow.pyfunc.PythonModel):
    def __init__(self, inputs):
        self.weights = numpy.zeros(inputs)

    def predict(self, context, model_input: pandas.DataFrame):
        return 1 / (1 + numpy.exp(-model_input.to_numpy() @ self.weights))

    def step(self, x, y):
        p = self.predict(None, x)
        self.weights += x.to_numpy().T @ (y - p) / len(y)
        return -numpy.mean(numpy.log(numpy.where(y == 1, p, 1 - p)))


def rows_of(dataset):
    frame = read_dataset(DatasetRef.from_xcom(dataset))
    return frame.drop(columns="late"), frame["late"].to_numpy()
"""


def code(language, holding):
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return next(block for block in blocks if holding in block)


def test_the_pipeline_of_the_page_can_be_fitted():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"hour": rng.normal(size=60), "origin": rng.choice(["JFK", "EWR"], 60)})
    model = build_estimator(yaml.safe_load(code("yaml", "steps:")), {"model__max_iter": 3})
    assert model.fit(rows, rows["hour"] > 0).predict(rows).shape == (60,)


@pytest.fixture
def dag(airflow_db, environment, tmp_path, monkeypatch):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"hour": rng.normal(size=500), "wind": rng.normal(size=500)})
    rows.assign(late=(rows["hour"] > 0).astype(int)).to_parquet(tmp_path / "d.parquet")
    (tmp_path / "team.py").write_text(TEAM)
    (tmp_path / "dags").mkdir()
    file = tmp_path / "dags" / "own_function.py"
    file.write_text(code("python", "mlflow_run").replace("/data", str(tmp_path)))
    monkeypatch.syspath_prepend(str(tmp_path))
    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(str(file.parent), bundle_name="dags-folder", bundle_path=file.parent)
    assert bag.import_errors == {}
    sync_bag_to_db(bag, "dags-folder", None)
    yield bag.get_dag("own_function")
    sys.modules.pop("team", None)


def test_the_function_of_the_page_is_tracked_evaluated_and_registered(dag):
    assert dag.test().state == "success"
    client = mlflow.MlflowClient()
    version = client.get_model_version_by_alias("net", "champion")
    run = client.get_run(version.run_id)
    assert run.data.tags["airflow.task_id"] == "train"
    assert [each.dataset.name for each in run.inputs.dataset_inputs] == ["d"]
    losses = [each.value for each in client.get_metric_history(run.info.run_id, "loss")]
    assert len(losses) == 30
    assert losses[-1] < losses[0]


def test_the_function_of_the_page_has_ten_statements():
    tree = ast.parse(code("python", "mlflow_run"))
    train = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    assert sum(isinstance(node, ast.stmt) for node in ast.walk(train)) - 1 <= 10
