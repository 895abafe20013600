from __future__ import annotations

import inspect
from contextlib import contextmanager
from unittest.mock import MagicMock

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlops_provider.exceptions import PermanentError, ServingUnavailableError
from airflow_mlops_provider.operators.base import failing_for_good
from airflow_mlops_provider.operators.rollout import approve
from airflow_mlops_provider.operators.rollout import base as rollout
from airflow_mlops_provider.operators.rollout.approve import ApproveRolloutOperator
from airflow_mlops_provider.operators.rollout.base import explain
from airflow_mlops_provider.operators.rollout.blue_green import BlueGreenRolloutOperator
from airflow_mlops_provider.operators.rollout.canary import CanaryRolloutOperator
from airflow_mlops_provider.operators.rollout.shadow import ShadowRolloutOperator
from airflow_mlops_provider.records import RolloutVerdict
from airflow_mlops_provider.steps.rollout.drive import tick
from airflow_mlops_provider.steps.rollout.kinds import read_plan
from airflow_mlops_provider.steps.rollout.plan import BlueGreenPlan, CanaryPlan, ShadowPlan
from airflow_mlops_provider.triggers.rollout import RolloutTrigger
from tests.serving_fake import version, with_champion

FAST = {
    "steps": "10, 100",
    "step_min_seconds": "0",
    "step_max_seconds": "0.5",
    "min_requests": "10",
    "interval_seconds": "0.05",
    "bake_seconds": "0",
    "lease_seconds": "30",
}
STEP = {
    "state": "STEP",
    "weight": 10,
    "seconds": 30.0,
    "champion_requests": 900,
    "champion_errors": 9,
    "candidate_requests": 100,
    "candidate_errors": 20,
    "error_e_value": 1e6,
}


def verdict(state, **changes):
    fields = {
        "endpoint": "e",
        "champion": "v1",
        "candidate": "v2",
        "state": state,
        "reason": "too many errors",
        "steps": [STEP],
    }
    return RolloutVerdict.from_xcom(fields | changes)


@pytest.fixture
def target(monkeypatch):
    fake = with_champion()
    hook = MagicMock()
    hook.return_value.get_conn.return_value = fake
    monkeypatch.setattr(rollout, "ServingHook", hook)
    return fake


@pytest.fixture
def runs(monkeypatch):
    """The MLflow runs that were opened."""
    opened = []

    @contextmanager
    def tracked_run(operator, context):
        opened.append(MagicMock())
        with failing_for_good():
            yield opened[-1]

    monkeypatch.setattr(rollout.MlopsOperator, "tracked_run", tracked_run)
    return opened


def operator(**changes):
    arguments = {"endpoint": "e", "candidate": version("2").to_xcom(), **FAST, **changes}
    return CanaryRolloutOperator(task_id="t", **arguments)


def test_a_waiting_worker_ticks_to_the_end(target, runs, monkeypatch):
    monkeypatch.setattr(rollout.time, "sleep", lambda seconds: target.serve(1000))
    record = operator().execute({"ti": MagicMock()})
    assert (record["state"], target.traffic) == ("SUCCEEDED", {"v2": 100})
    assert len(runs) == 1


def test_deferring_leaves_no_run_open(target, runs):
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True).execute({"ti": MagicMock()})
    trigger = deferred.value.trigger
    assert isinstance(trigger, RolloutTrigger)
    assert CanaryPlan.from_xcom(trigger.plan).steps == (10, 100)
    assert deferred.value.method_name == "execute_complete"
    assert target.rollout["state"] == "SMOKE"
    assert runs == []


def test_the_trigger_ends_the_task_with_its_verdict(runs):
    event = {"verdict": verdict("SUCCEEDED").to_xcom()}
    record = operator().execute_complete({"ti": MagicMock()}, event)
    assert record == verdict("SUCCEEDED").to_xcom()
    runs[0].log_record.assert_called_once_with(verdict("SUCCEEDED"))


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("ROLLED_BACK", "Register a better version"),
        ("ROLLBACK_FAILED", "by hand"),
        ("PAUSED", "Clear this task"),
    ],
)
def test_no_promotion_fails_for_good_after_keeping_the_verdict(runs, state, remedy):
    context, event = {"ti": MagicMock()}, {"verdict": verdict(state).to_xcom()}
    with pytest.raises(AirflowFailException, match=remedy):
        operator().execute_complete(context, event)
    pushed = context["ti"].xcom_push.call_args.kwargs
    assert pushed == {"key": "return_value", "value": verdict(state).to_xcom()}


@pytest.mark.parametrize(
    ("permanent", "error"), [(True, AirflowFailException), (False, ServingUnavailableError)]
)
def test_an_error_of_the_trigger_keeps_its_kind(permanent, error):
    event = {"error": "the host is gone", "permanent": permanent}
    with pytest.raises(error, match="the host is gone"):
        operator().execute_complete({"ti": MagicMock()}, event)


@pytest.mark.parametrize(
    ("knob", "value"), [("steps", "50, 10, 100"), ("alpha", "none"), ("candidate", "v2")]
)
def test_a_wrong_argument_fails_before_anything_moves(target, knob, value):
    with pytest.raises(AirflowFailException) as failure:
        operator(**{knob: value}).execute({"ti": MagicMock()})
    assert isinstance(failure.value.__cause__, PermanentError)
    assert target.rollout is None


def test_the_message_bounds_its_evidence():
    message = explain(verdict("ROLLED_BACK", steps=[STEP] * 50))
    assert "20 errors of 100" in message
    assert len(message) < 1000


def test_the_message_of_a_shadow_tells_its_pairs():
    step = {"state": "SHADOW", "weight": 0, "seconds": 9.0, "pairs": 70, "disagreements": 60}
    message = explain(verdict("ROLLED_BACK", steps=[{**step, "shadow_failed": 4}]))
    assert "60 of 70 mirrored requests disagree, 4 more failed" in message


RELEASES = [
    (CanaryRolloutOperator, CanaryPlan),
    (ShadowRolloutOperator, ShadowPlan),
    (BlueGreenRolloutOperator, BlueGreenPlan),
]


@pytest.mark.parametrize(("operator", "plan"), RELEASES)
def test_every_knob_of_the_plan_is_an_argument_with_its_default(operator, plan):
    arguments = {
        name: parameter
        for each in operator.__mro__
        if "__init__" in vars(each)
        for name, parameter in inspect.signature(vars(each)["__init__"]).parameters.items()
    }
    knobs = set(plan.__dataclass_fields__) - {"candidate", "kind", "model_uri"}
    assert set(operator.knobs) == knobs
    for name in knobs:
        assert arguments[name].default == plan.__dataclass_fields__[name].default, name


@pytest.mark.parametrize(("operator", "plan"), RELEASES)
def test_an_operator_makes_the_plan_of_its_kind(target, operator, plan):
    with pytest.raises(TaskDeferred) as deferred:
        operator(
            task_id="t",
            endpoint="e",
            candidate=version("2").to_xcom(),
            deferrable=True,
            options={"workers": 2},
        ).execute({"ti": MagicMock()})
    made = read_plan(deferred.value.trigger.plan)
    assert type(made) is plan
    assert (made.candidate, made.options) == ("v2", {"workers": 2})


@pytest.fixture
def approving(target, monkeypatch):
    hook = MagicMock()
    hook.return_value.get_conn.return_value = target
    monkeypatch.setattr(approve, "ServingHook", hook)
    return ApproveRolloutOperator(task_id="t", endpoint="e", approved_by="Ada")


def awaiting(target):
    plan = BlueGreenPlan.of(candidate="v2", model_uri="models:/m/2", approval="before_promotion")
    state = tick(target, "e", plan, 0)
    assert (state.state, tick(target, "e", plan, 1).state) == ("SMOKE", "AWAIT_APPROVAL")
    return plan


def test_an_approval_is_repeated_until_the_driver_took_it(target, approving, monkeypatch):
    plan, waits = awaiting(target), []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 1:
            target.rollout["approved_by"] = ""  # written over by a tick that had begun
        else:
            tick(target, "e", plan, 2)

    monkeypatch.setattr(approve.time, "sleep", wait)
    assert approving.execute({"ti": MagicMock()})["state"] == "BAKING"
    assert target.traffic == {"v2": 100}
    assert target.rollout["steps"][-1]["approved_by"] == "Ada"


def test_nothing_is_approved_in_advance(target, approving):
    with pytest.raises(AirflowFailException, match="awaits approval"):
        approving.execute({"ti": MagicMock()})


def test_a_rollout_that_nobody_drives_does_not_take_its_approval(target, approving, monkeypatch):
    awaiting(target)
    monkeypatch.setattr(approve.time, "sleep", lambda seconds: None)
    approving.timeout_seconds = 0
    with pytest.raises(AirflowFailException, match="does not go on"):
        approving.execute({"ti": MagicMock()})
