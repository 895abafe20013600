from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import (
    AirflowFailException,
    DownstreamTasksSkipped,
    TaskAwaitingInput,
)

from airflow_mlops_provider.operators import PromoteModelOperator, ValidateModelOperator
from airflow_mlops_provider.operators.approve import ApproveModelOperator, promote_after_approval
from airflow_mlops_provider.records import GateVerdict, ModelVersionRef

STEP = "airflow_mlops_provider.steps.approval.record_answer"
VERDICT = GateVerdict(
    outcome="promote", challenger_uri="models:/m-1", champion_uri=None, reasons=[]
)
MOMENT = datetime(2013, 4, 1, tzinfo=UTC)


@pytest.fixture
def approve(version, monkeypatch):
    monkeypatch.setattr(ApproveModelOperator, "open_experiment", lambda _: (MagicMock(), "1"))
    with DAG("a_dag"):
        operator = ApproveModelOperator(
            task_id="approve", verdict=VERDICT.to_xcom(), model_version=version()
        )
        operator >> PromoteModelOperator(task_id="promote", model_version=version())
    return operator


def answered(option, reason=""):
    return {
        "chosen_options": [option],
        "params_input": {"reason": reason},
        "responded_at": MOMENT,
        "responded_by_user": {"id": "1", "name": "Ada"},
    }


def test_the_question_shows_the_verdict_and_waits(context, approve):
    asked = "airflow.providers.standard.operators.hitl.upsert_hitl_detail"
    context["task_instance"] = MagicMock()
    with patch(asked) as put, pytest.raises(TaskAwaitingInput):
        approve.execute(context)
    assert "The gate says **promote**" in put.call_args.kwargs["body"]
    assert put.call_args.kwargs["options"] == ["Approve", "Reject"]
    assert "reason" in put.call_args.kwargs["params"]


def test_an_approval_is_kept_and_goes_on(context, approve, version):
    with patch(STEP) as kept:
        approve.execute_complete(context, answered("Approve", "looks good"))
    assert kept.call_args.args[1] == ModelVersionRef.from_xcom(version())
    assert kept.call_args.kwargs == {
        "answer": "Approve",
        "by": "Ada",
        "at": MOMENT,
        "reason": "looks good",
    }


def test_a_rejection_is_kept_and_skips_the_promotion(context, approve):
    context["task"] = approve
    with patch(STEP) as kept, pytest.raises(DownstreamTasksSkipped) as skipped:
        approve.execute_complete(context, answered("Reject", "too slow"))
    assert kept.call_args.kwargs["reason"] == "too slow"
    assert skipped.value.tasks == ["promote"]


def test_no_answer_in_time_is_kept_and_fails(context, approve):
    event = {"error": "no answer", "error_type": "timeout"}
    with patch(STEP) as kept, pytest.raises(AirflowFailException, match="no answer"):
        approve.execute_complete(context, event)
    assert kept.call_args.kwargs["answer"] == "timed out"
    assert kept.call_args.kwargs["by"] == "nobody"


def test_a_default_that_was_taken_for_want_of_an_answer_is_kept_as_that(context, approve):
    event = answered("Approve") | {"responded_by_user": None, "timedout": True}
    with patch(STEP) as kept:
        approve.execute_complete(context, event)
    said = kept.call_args.kwargs
    assert (said["answer"], said["by"]) == ("Approve", "nobody")
    assert said["reason"] == "nobody answered in time, so the default was taken"


def test_a_rejection_that_fails_the_task_is_not_asked_again(context, approve):
    approve.fail_on_reject = True
    with patch(STEP), pytest.raises(AirflowFailException, match="too slow"):
        approve.execute_complete(context, answered("Reject", "too slow"))


def test_something_that_is_no_verdict_fails_for_good(context, version):
    operator = ApproveModelOperator(task_id="t", verdict={"a": 1}, model_version=version())
    with pytest.raises(AirflowFailException, match="GateVerdict"):
        operator.execute(context)


def test_one_call_wires_gate_approval_and_promotion(version):
    with DAG("a_dag") as dag:
        gate = ValidateModelOperator(task_id="gate", challenger={})
        promote = promote_after_approval(gate, version(), subject="Promote it?")
    assert promote.upstream_task_ids == {"approve"}
    assert dag.get_task("approve").upstream_task_ids == {"gate"}
    assert dag.get_task("approve").subject == "Promote it?"
