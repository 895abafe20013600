"""The DAG in docs/runtimes.md, with another scikit-learn than Airflow's, and no Airflow there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "runtimes.md"
PACKAGES = Path(pytest.__file__).parents[1]
OTHER = "1.7.2"
NO_AIRFLOW = """
import sys

class NoAirflow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "airflow":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NoAirflow())
"""
AT_THE_END = """
    from airflow.sdk import task

    @task(trigger_rule="all_done")
    def airflow_never_saw_sklearn():
        import sys
        assert "sklearn" not in sys.modules

    dag_tasks = list(train.dag.tasks)
    dag_tasks >> airflow_never_saw_sklearn()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter with our packages, but another scikit-learn and no Airflow."""
    folder = tmp_path_factory.mktemp("sklearn")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/*/site-packages")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*install, packages, f"scikit-learn=={OTHER}"], check=True)
    (packages / "ours.pth").write_text(str(PACKAGES))
    (packages / "sitecustomize.py").write_text(NO_AIRFLOW)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def env(airflow_db, python, tmp_path_factory):
    """The environment of an Airflow whose only DAG is that of the page."""
    folder = tmp_path_factory.mktemp("isolated")
    rng = np.random.default_rng(0)
    amount, items = rng.gamma(2, 20, 500), rng.integers(1, 9, 500)
    returned = (amount / 20 - items / 4 + rng.normal(size=500) > 0).astype(int)
    (folder / "orders").mkdir()
    frame = pd.DataFrame({"amount": amount, "items": items, "returned": returned})
    frame.to_parquet(folder / "orders" / "day.parquet")
    (folder / "dags").mkdir()
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    code = code.replace("/venvs/sklearn17/bin/python", str(python)).replace("/data", str(folder))
    (folder / "dags" / "isolated.py").write_text(code + AT_THE_END)
    return {
        **{name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"},
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__MLOPS__WORKSPACE": str(folder / "workspace"),
    }


@pytest.fixture(scope="module")
def store(env):
    """The embedded MLflow store after the DAG has run."""
    command = [sys.executable, "-m", "airflow", "dags", "test", "isolated"]
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-4000:]
    return f"sqlite:///{env['AIRFLOW__MLOPS__WORKSPACE']}/mlflow/mlflow.db"


def record(client, name):
    """The record of this name that a task of the DAG logged, and its run."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    for run in client.search_runs(experiments):
        if any(
            each.path == f"records/{name}.json"
            for each in client.list_artifacts(run.info.run_id, "records")
        ):
            path = client.download_artifacts(run.info.run_id, f"records/{name}.json")
            return json.loads(Path(path).read_text()), run
    raise AssertionError(f"No task logged a {name}")


def test_a_model_is_of_the_scikit_learn_that_its_step_ran_with(store):
    assert version("scikit-learn") != OTHER
    client = mlflow.MlflowClient(store, store)
    model, run = record(client, "ModelRef")
    folder = client.get_logged_model(model["model_id"]).artifact_location
    requirements = Path(folder.removeprefix("file://"), "requirements.txt").read_text()
    assert f"scikit-learn=={OTHER}" in requirements
    assert run.info.status == "FINISHED"
    report, _ = record(client, "EvaluationReport")
    assert report["metrics"]["auc"]["value"] > 0.7
    assert report["model_uri"] == model["model_uri"]


def test_reproducing_it_here_names_the_other_scikit_learn(store, capsys):
    client = mlflow.MlflowClient(store, store)
    _, run = record(client, "ModelRef")
    code = main(["reproduce", run.info.run_id, "--tracking-uri", store])
    shown = capsys.readouterr().out
    assert code in (1, 2), shown
    assert f"environment: scikit-learn {OTHER} -> {version('scikit-learn')}" in shown


def test_reproducing_it_there_gives_the_same_model(store, python, env):
    client = mlflow.MlflowClient(store, store)
    _, run = record(client, "ModelRef")
    command = [python, "-m", "airflow_mlops_provider.cli", "reproduce", run.info.run_id]
    result = subprocess.run(
        [*command, "--tracking-uri", store],
        env={**env, "PYTHONPATH": str(PAGE.parents[1])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert "500 of 500 predictions are the same" in result.stdout
