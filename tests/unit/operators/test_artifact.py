from __future__ import annotations

import sys
from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.declared import Declared
from airflow_mlops_provider.exceptions import MlflowUnavailableError, StepFailedError
from airflow_mlops_provider.operators import artifact
from airflow_mlops_provider.operators.artifact import CheckModelArtifactOperator
from airflow_mlops_provider.records import ArtifactCheck

STEPS = "airflow_mlops_provider.steps"
CHECK = ArtifactCheck(
    model_uri="models:/delay/2",
    environment="local",
    outcome="passed",
    n=9,
    n_differing=0,
    largest_difference=0,
    tolerance=1e-6,
    seconds=1,
    python="3.11.7",
)
ANSWER = {"value": {"answers": [0.5]}}


@pytest.fixture
def process(monkeypatch):
    """The process that is asked, and how it was made."""
    made = MagicMock()
    made.return_value.run.return_value = ANSWER
    monkeypatch.setattr(artifact, "LocalProcess", made)
    return made


@pytest.fixture
def execute(context, run, dataset, version, process):
    """Run the operator, which asks for nothing but the answers."""

    def go(**given):
        operator = CheckModelArtifactOperator(
            task_id="t", **{"model": version(), "dataset": dataset.to_xcom(), **given}
        )

        def check(uri, rows, ask, **asked):
            assert ask(uri, "/rows.parquet", Declared(["xgboost"], "3.12")) == ANSWER["value"]
            return CHECK

        with (
            patch(f"{STEPS}.register.model_uri", side_effect=lambda client, uri, optional: uri),
            patch(f"{STEPS}.artifact.check_artifact", side_effect=check) as step,
        ):
            assert operator.execute(context) == CHECK.to_xcom()
        return step

    return go


def test_a_version_is_asked_in_a_process_without_the_code_of_the_dags(
    execute, process, run, dataset
):
    step = execute(n_rows="50")
    assert step.call_args.args[:2] == ("models:/delay/2", dataset)
    assert step.call_args.kwargs["n_rows"] == 50
    assert process.call_args.args[0] == sys.executable
    assert process.call_args.kwargs == {"dag_code": False}
    request = process.return_value.run.call_args.args[0]
    assert request["arguments"] == ["models:/delay/2", "/rows.parquet", ["xgboost"]]
    run.log_record.assert_called_once_with(CHECK)


def test_declared_makes_an_environment_of_the_requirements(execute, process):
    with patch.object(artifact, "virtualenv_python", return_value="/venv/python") as made:
        execute(environment="declared")
    requirements, python = made.call_args.args
    assert (requirements[0], python) == ("xgboost", "3.12")
    assert process.call_args.args[0] == "/venv/python"


def test_an_unknown_environment_fails_for_good(execute):
    with pytest.raises(AirflowFailException, match="environment parameter"):
        execute(environment="conda")


@pytest.mark.parametrize(
    "error",
    [{"type": "ModelError", "message": "no luck"}, {"type": "OSError", "message": "no luck"}],
)
def test_a_model_that_fails_there_fails_for_good_with_the_last_lines(execute, process, error):
    def run(request):
        process.call_args.args[2]("last words")
        return {"error": error}

    process.return_value.run.side_effect = run
    with pytest.raises(AirflowFailException, match=r"clean process.*no luck.*last words"):
        execute()


def test_a_process_that_dies_fails_for_good(execute, process):
    process.return_value.run.side_effect = StepFailedError("killed by SIGSEGV")
    with pytest.raises(AirflowFailException, match="SIGSEGV"):
        execute()


def test_mlflow_that_does_not_answer_is_asked_again(execute, process):
    error = {"type": "MlflowUnavailableError", "message": "away"}
    process.return_value.run.return_value = {"error": error}
    with pytest.raises(MlflowUnavailableError):
        execute()


def test_ending_the_task_ends_the_process():
    operator = CheckModelArtifactOperator(task_id="t", model="m", dataset={})
    operator._process = MagicMock()
    operator.on_kill()
    operator._process.stop.assert_called_once_with()
