from __future__ import annotations

from unittest.mock import MagicMock, patch

import pytest

from airflow_mlops_provider.operators import tune
from airflow_mlops_provider.operators.tune import RunTrialsOperator, TuneModelOperator
from airflow_mlops_provider.records import ModelRef, SearchSpec, StudyRef

STEPS = "airflow_mlops_provider.steps"
MODEL = ModelRef(
    model_uri="models:/m-1",
    model_id="m-1",
    run_id="run-1",
    target="late",
    features=["hour"],
    params={},
    metrics={},
    train_hash="l",
)
GIVEN = {"estimator": "a.b", "features": ["hour"], "target": "late", "search_space": {}}


@pytest.fixture
def operator(dataset):
    def make(kind=TuneModelOperator, **changes):
        return kind(task_id="t", dataset=dataset.to_xcom(), **GIVEN, **changes)

    return make


def test_tuning_passes_numbers_that_came_as_text(context, run, operator, workspace):
    asked = operator(n_trials="5", seed="2", n_workers="2", timeout_seconds="60")
    with patch(f"{STEPS}.tune.tune_model", return_value=MODEL) as step:
        assert asked.execute(context) == MODEL.to_xcom()
    _, search = step.call_args.args
    expected = SearchSpec(space={}, n_trials=5, seed=2, n_workers=2, timeout_seconds=60.0)
    assert search == expected
    assert step.call_args.kwargs["workspace"] == workspace
    assert step.call_args.kwargs["storage"] is None


def test_a_connection_keeps_the_studies(context, run, operator, monkeypatch):
    monkeypatch.setattr(tune, "database_url", lambda conn_id: f"postgresql://{conn_id}")
    with patch(f"{STEPS}.tune.tune_model", return_value=MODEL) as step:
        operator(storage_conn_id="studies").execute(context)
    assert step.call_args.kwargs["storage"] == "postgresql://studies"


def test_a_worker_hands_over_the_study(context, run, operator):
    study = StudyRef(name="abc", ran=3, finished=9, best_score=0.8)
    with patch(f"{STEPS}.tune.run_trials", return_value=study) as step:
        assert operator(RunTrialsOperator, worker="2").execute(context) == study.to_xcom()
    assert step.call_args.kwargs["worker"] == 2
    run.log_record.assert_called_once_with(study)


def test_progress_is_kept_now_and_then_and_at_the_end(context, operator, monkeypatch):
    clock = iter([10.0, 10.1, 13.0, 13.1])
    monkeypatch.setattr(tune.time, "monotonic", lambda: next(clock))
    context["task_state_store"] = MagicMock()
    tell = operator().progress(context)
    for finished in range(1, 5):
        tell({"finished": finished, "n_trials": 4, "best_score": 0.5, "last": None})
    kept = [call.args[1]["finished"] for call in context["task_state_store"].set.call_args_list]
    assert kept == [1, 3, 4]


def test_killing_the_task_ends_its_workers(operator):
    with patch(f"{STEPS}.tune.stop_workers") as stop:
        operator().on_kill()
    stop.assert_called_once_with()
