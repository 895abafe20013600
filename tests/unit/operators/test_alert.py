from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
    TaskAwaitingInput,
)

from airflow_mlops_provider.operators.alert import JudgeAlertOperator
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.steps.retrain.ledger import Ledger

MOMENT = datetime(2013, 7, 1, 12, tzinfo=UTC)
REPORT = {
    "endpoint": "e",
    "findings": [{"signal": "fairness", "status": "raised", "reason": "EWR is late", "n": 900}],
}


@pytest.fixture
def context(context):
    event = SimpleNamespace(
        asset=SimpleNamespace(uri="mlops-alert://e"),
        timestamp=MOMENT,
        extra=REPORT,
        source_dag_id="level1_monitoring",
        source_run_id="r",
        source_task_id="monitor",
    )
    run = SimpleNamespace(
        run_type="asset_triggered", consumed_asset_events=[event], run_after=MOMENT
    )
    return context | {"dag_run": run, "task_instance": MagicMock()}


@pytest.fixture
def judge(context, workspace):
    with DAG("a_dag"):
        operator = JudgeAlertOperator(task_id="judge", name="delay")
        operator >> [MlopsOperator(task_id=each) for each in ("retrain", "ignore", "roll_back")]
    context["ti"].task = operator
    context["ti"].xcom_pull.return_value = ["**fairness raised**: EWR is late (n=900)"]
    return operator


def answer(option, **changes):
    return {
        "chosen_options": [option],
        "params_input": {"reason": "a new terminal"},
        "responded_at": MOMENT,
        "responded_by_user": {"id": "1", "name": "Ada"},
        **changes,
    }


def test_the_question_shows_the_findings_and_waits(context, judge):
    asked = "airflow.providers.standard.operators.hitl.upsert_hitl_detail"
    with patch(asked) as put, pytest.raises(TaskAwaitingInput):
        judge.execute(context)
    assert "**fairness raised**: EWR is late (n=900)" in put.call_args.kwargs["body"]
    assert put.call_args.kwargs["options"] == ["Retrain", "Ignore", "Roll back"]


def test_what_another_run_asks_about_is_not_asked_again(context, judge):
    asked = "airflow.providers.standard.operators.hitl.upsert_hitl_detail"
    with patch(asked), pytest.raises(TaskAwaitingInput):
        judge.execute(context)
    context["ti"].run_id = "another_run"
    with patch(asked) as put, pytest.raises(AirflowSkipException, match="Another run"):
        judge.execute(context)
    put.assert_not_called()


def test_a_report_may_be_given_instead_of_asset_events(context, workspace):
    judge = JudgeAlertOperator(task_id="t", name="delay", report={"reasons": ["the disk is full"]})
    asked = "airflow.providers.standard.operators.hitl.upsert_hitl_detail"
    with patch(asked) as put, pytest.raises(TaskAwaitingInput):
        judge.execute(context)
    assert "the disk is full" in put.call_args.kwargs["body"]


@pytest.mark.parametrize(
    ("option", "followed"),
    [("Retrain", "retrain"), ("Ignore", "ignore"), ("Roll back", "roll_back")],
)
def test_an_answer_is_kept_with_who_when_and_why_and_followed(
    context, judge, workspace, option, followed
):
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        judge.execute_complete(context, answer(option))
    skipped_tasks = {task[0] if isinstance(task, tuple) else task for task in skipped.value.tasks}
    assert skipped_tasks == {"retrain", "ignore", "roll_back"} - {followed}
    (kept,) = Ledger(workspace, "delay").answers()
    assert (kept.answer, kept.by, kept.reason) == (option, "Ada", "a new terminal")
    assert kept.at == MOMENT.isoformat()
    assert kept.findings == ["**fairness raised**: EWR is late (n=900)"]
    handed = {
        call.kwargs["key"]: call.kwargs["value"] for call in context["ti"].xcom_push.mock_calls
    }
    assert handed["return_value"] == kept.to_xcom()
    assert handed["event"]["by"] == "Ada"


def test_a_default_that_was_taken_for_want_of_an_answer_is_nobodys(context, judge, workspace):
    event = answer("Ignore", responded_by_user=None, timedout=True, params_input={})
    with pytest.raises(DownstreamTasksSkipped):
        judge.execute_complete(context, event)
    (kept,) = Ledger(workspace, "delay").answers()
    assert (kept.by, kept.event.by) == ("nobody", None)
    assert kept.reason == "nobody answered in time, so the default was taken"


def test_no_answer_in_time_is_kept_and_fails_for_good(context, judge, workspace):
    with pytest.raises(AirflowFailException, match="no answer"):
        judge.execute_complete(context, {"error": "no answer", "error_type": "timeout"})
    (kept,) = Ledger(workspace, "delay").answers()
    assert kept.answer == "timed out"
