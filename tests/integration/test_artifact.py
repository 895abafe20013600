"""Real models in real clean processes: what a task hides from its author comes to light."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException
from mlflow.models import infer_signature

from airflow_mlops_provider.operators import artifact
from airflow_mlops_provider.operators.artifact import CheckModelArtifactOperator
from airflow_mlops_provider.operators.base import failing_for_good
from airflow_mlops_provider.steps.artifact import check_artifact
from airflow_mlops_provider.steps.snapshot import write_dataset

PACKAGES = Path(pytest.__file__).parents[1]
ROWS = pd.DataFrame({"hour": np.linspace(0, 23, 500)})
CODE = """
import os, sys
import mlflow, numpy as np, pandas as pd

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pd.DataFrame):
        return np.asarray(model_input["hour"]) / 24

class OfTheTask(mlflow.pyfunc.PythonModel):
    state = 0
    def predict(self, context, model_input: pd.DataFrame):
        return np.asarray(model_input["hour"]) / 24 + self.state + ("airflow" in sys.modules)

class Dies(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pd.DataFrame):
        if "airflow" not in sys.modules:
            print("last words", flush=True)
            os._exit(3)
        return np.asarray(model_input["hour"]) / 24

class NeedsJoblib(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pd.DataFrame):
        import joblib
        return np.asarray(model_input["hour"]) / 24
"""
NO_JOBLIB = """
import sys

class NoJoblib:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "joblib":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NoJoblib())
"""


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", uri)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        mlflow.create_experiment("models", f"{folder}/artifacts")
        yield uri
        mlflow.set_tracking_uri(before)
        mlflow.set_registry_uri(before)


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A module beside the DAGs, with models in it."""
    (tmp_path / "dag_code").mkdir()
    file = tmp_path / "dag_code" / "team_models.py"
    file.write_text(CODE)
    monkeypatch.syspath_prepend(str(file.parent))
    yield str(file)
    sys.modules.pop("team_models", None)


@pytest.fixture
def checked(tmp_path, store, monkeypatch):
    """Log a model of the module, and check it as the operator does."""
    monkeypatch.setattr(
        artifact,
        "MlflowHook",
        lambda conn_id: type("Hook", (), {"tracking_uri": store, "environment": {}}),
    )
    dataset = write_dataset(ROWS, "rows", str(tmp_path), "test")

    def go(kind, *, code_paths=None, python=sys.executable):
        import team_models

        mlflow.set_experiment("models")
        with mlflow.start_run():
            uri = mlflow.pyfunc.log_model(
                python_model=getattr(team_models, kind)(),
                name="m",
                signature=infer_signature(ROWS, np.zeros(1)),
                pip_requirements=["mlflow", "numpy<1"],
                code_paths=code_paths,
            ).model_uri
        monkeypatch.setattr(sys, "executable", python)
        operator = CheckModelArtifactOperator(task_id="t", model=uri, dataset={})
        with failing_for_good():
            return check_artifact(uri, dataset, operator._ask)

    return go


def test_a_model_with_its_code_stands_by_itself(checked, code):
    check = checked("Model", code_paths=[code])
    assert (check.outcome, check.n, check.largest_difference) == ("passed", 200, 0)
    (said,) = check.different_requirements
    assert said == f"numpy<1 is declared, {np.__version__} is installed"


def test_code_beside_the_dags_that_the_model_lacks_is_named(checked, code):
    with pytest.raises(AirflowFailException, match=r"code_paths.*No module named 'team_models'"):
        checked("Model")


def test_a_model_that_answers_by_what_the_task_has_loaded_is_found_out(checked, code):
    check = checked("OfTheTask", code_paths=[code])
    assert (check.outcome, check.n_differing) == ("failed", 200)
    assert check.largest_difference == 1


def test_a_process_that_dies_tells_its_last_lines(checked, code):
    with pytest.raises(AirflowFailException, match=r"exit code 3.*last words"):
        checked("Dies", code_paths=[code])


def test_a_package_that_was_not_declared_is_named(checked, code, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    (packages,) = (tmp_path / "v").glob("lib/*/site-packages")
    (packages / "ours.pth").write_text(str(PACKAGES))
    (packages / "sitecustomize.py").write_text(textwrap.dedent(NO_JOBLIB))
    with pytest.raises(AirflowFailException, match="No module named 'joblib'"):
        checked("NeedsJoblib", code_paths=[code], python=str(tmp_path / "v" / "bin" / "python"))
