from __future__ import annotations

import sys
from importlib.metadata import version

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature

from airflow_mlops_provider.declared import Declared, declared_by
from airflow_mlops_provider.exceptions import ModelError, ParameterError
from airflow_mlops_provider.steps.artifact import check_artifact
from airflow_mlops_provider.steps.artifact_answers import answer_rows, different_requirements


def here(model_uri, rows, declared):
    """Ask in this process."""
    return answer_rows(model_uri, rows, declared.requirements)


def shifted(by, rows=slice(0, 1)):
    """Ask here, and change some answers."""

    def ask(*asked):
        found = here(*asked)
        answers = np.array(found["answers"])
        answers[rows] += by
        return {**found, "answers": answers.tolist()}

    return ask


def test_the_same_answers_pass(models, holdout):
    check = check_artifact(models[-1].model_uri, holdout, here, n_rows=50)
    assert (check.outcome, check.n_differing, check.largest_difference) == ("passed", 0, 0)
    assert check.n == 50 + 5  # five rows are the input example
    assert check.seconds > 0


@pytest.mark.parametrize(("by", "outcome"), [(1e-7, "passed"), (1e-3, "failed")])
def test_answers_differ_beyond_the_tolerance(models, holdout, by, outcome):
    check = check_artifact(models[-1].model_uri, holdout, shifted(by))
    assert check.outcome == outcome
    assert check.n_differing == (outcome == "failed")
    assert check.largest_difference == pytest.approx(by, rel=1e-6)


def test_answers_of_another_shape_are_an_error(models, holdout):
    def ask(*asked):
        found = here(*asked)
        return {**found, "answers": found["answers"][1:]}

    with pytest.raises(ModelError, match=r"shape \(200,\).*got \(199,\)"):
        check_artifact(models[-1].model_uri, holdout, ask)


@pytest.mark.parametrize("wrong", [{"n_rows": 0}, {"tolerance": -1}])
def test_figures_out_of_range_are_refused(holdout, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        check_artifact("models:/m-1", holdout, here, **wrong)


def test_a_model_without_an_input_example_is_asked_the_rows_alone(run, holdout):
    rows = pd.DataFrame({"hour": [0.5, 1.0]})

    class Constant(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input):
            return np.full(len(model_input), 0.5)

    logged = mlflow.pyfunc.log_model(
        python_model=Constant(),
        name="m",
        signature=infer_signature(rows, np.zeros(2)),
        pip_requirements=["numpy"],
    )
    check = check_artifact(logged.model_uri, holdout, here, n_rows=7)
    assert (check.outcome, check.n) == ("passed", 7)
    mlflow.end_run()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("numpy", []),
        (f"numpy=={version('numpy')}", []),
        ("NumPy<1  # old", [f"NumPy<1 is declared, {version('numpy')} is installed"]),
        ("no-such-package==1", ["no-such-package==1 is declared, nothing is installed"]),
        ("numpy<1; python_version < '3'", []),
        ("--pre", []),
        ("./wheel.whl", []),
    ],
)
def test_a_requirement_that_is_not_met_is_said(line, said):
    assert different_requirements([line]) == said


def test_a_model_declares_its_requirements(models):
    declared = declared_by(models[-1].model_uri)
    assert f"scikit-learn=={version('scikit-learn')}" in declared.requirements
    assert declared.python is None
    assert different_requirements(declared.requirements) == []


def test_a_model_that_is_not_there_declares_nothing(client):
    with pytest.raises(ModelError, match="m-0"):
        declared_by("models:/m-0")


def test_only_what_it_takes_to_ask_is_added():
    asked = ["pandas>=2", "mlflow-skinny==3.17.2", "xgboost"]
    names = [each.partition("==")[0] for each in Declared(asked, None).to_install()]
    assert names == ["pandas>=2", "mlflow-skinny", "xgboost", "pyarrow", "fsspec"]
    assert "airflow" not in " ".join(names)


def test_what_asks_is_light():
    import subprocess

    code = (
        "import sys, airflow_mlops_provider.steps.artifact_answers\n"
        "print([name for name in ('airflow', 'sklearn', 'skops', 'duckdb') if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


def test_what_is_not_registered_is_refused_before_anything_is_installed(holdout, tmp_path):
    with pytest.raises(ModelError, match="register it first"):
        check_artifact(str(tmp_path), holdout, lambda *asked: pytest.fail("was asked"))
