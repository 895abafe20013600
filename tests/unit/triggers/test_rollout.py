from __future__ import annotations

from importlib import import_module
from unittest.mock import MagicMock

import pytest

from airflow_mlops_provider.steps.rollout.drive import begin, tick
from airflow_mlops_provider.steps.rollout.kinds import DrivenState
from airflow_mlops_provider.steps.rollout.plan import CanaryPlan
from airflow_mlops_provider.triggers import rollout
from airflow_mlops_provider.triggers.rollout import RolloutTrigger
from tests.serving_fake import with_champion

PLAN = CanaryPlan.of(
    candidate="v2",
    model_uri="models:/m/2",
    steps=(10, 100),
    step_min_seconds=0,
    step_max_seconds=30,
    min_requests=10,
    interval_seconds=0.05,
    bake_seconds=0,
)


@pytest.fixture
def target(monkeypatch):
    fake = with_champion()
    hook = MagicMock()
    hook.return_value.get_conn.return_value = fake
    monkeypatch.setattr(rollout, "ServingHook", hook)
    return fake


@pytest.fixture
def trigger(target, monkeypatch):
    async def wait(seconds):
        target.serve(1000)

    monkeypatch.setattr(rollout.asyncio, "sleep", wait)
    return RolloutTrigger(endpoint="e", plan=PLAN.to_xcom(), serving_conn_id="serving_default")


async def events(trigger):
    return [event.payload async for event in trigger.run()]


def test_it_is_made_anew_from_its_serialised_form(trigger):
    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    again = getattr(import_module(module), name)(**arguments)
    assert again.serialize() == (path, arguments)


async def test_it_drives_the_rollout_to_its_end(trigger, target):
    (event,) = await events(trigger)
    assert event["verdict"]["state"] == "SUCCEEDED"
    assert target.traffic == {"v2": 100}
    assert target.closed == 1


async def test_an_ended_rollout_is_told_at_once(trigger, target):
    await events(trigger)
    before = list(target.history)
    (event,) = await events(trigger)
    assert event["verdict"]["state"] == "SUCCEEDED"
    assert target.history == before


async def test_what_is_left_to_a_worker_ends_the_wait(trigger, target, monkeypatch):
    monkeypatch.setattr(DrivenState, "for_worker", property(lambda state: state.weight == 10))
    assert await events(trigger) == [{"for_worker": True}]
    assert target.rollout["state"] == "STEP"


async def test_permanent_errors_become_an_event(trigger, target):
    target.traffic = {}
    (event,) = await events(trigger)
    assert event["permanent"] is True
    assert "DeployModelOperator" in event["error"]


async def test_a_host_that_stays_away_becomes_a_passing_error(trigger, target):
    trigger.plan = {**trigger.plan, "outage_seconds": 0}
    target.down = True
    (event,) = await events(trigger)
    assert event == {"error": "The serving host does not answer.", "permanent": False}


@pytest.mark.parametrize(
    ("task_state", "traffic"),
    [("failed", {"v1": 100}), ("success", {"v1": 90, "v2": 10}), (None, {"v1": 90, "v2": 10})],
)
async def test_only_marking_failed_rolls_back(trigger, target, monkeypatch, task_state, traffic):
    begin(target, "e", PLAN, 0)
    tick(target, "e", PLAN, 0)
    tick(target, "e", PLAN, 1)
    assert target.traffic == {"v1": 90, "v2": 10}
    trigger._task_instance = MagicMock(dag_id="d", task_id="t", run_id="r", map_index=-1)
    monkeypatch.setattr(
        "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states",
        lambda **query: {"r": {"t": task_state}},
    )
    await trigger.on_kill()
    assert target.traffic == traffic


async def test_without_a_task_nothing_is_rolled_back(trigger, target):
    tick(target, "e", PLAN, 0)
    await trigger.on_kill()
    assert target.rollout["state"] == "SMOKE"


async def test_an_unknown_plan_is_named(target):
    trigger = RolloutTrigger(endpoint="e", plan={"steps": 1}, serving_conn_id="c")
    (event,) = await events(trigger)
    assert "CanaryPlan" in event["error"]
