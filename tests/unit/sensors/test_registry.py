from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock, patch

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlops_provider.exceptions import MlflowUnavailableError, ParameterError
from airflow_mlops_provider.sensors.registry import ModelAliasSensor, ModelVersionSensor
from airflow_mlops_provider.steps.registry_events import RegistryState
from airflow_mlops_provider.triggers.registry import ModelRegistryTrigger, ModelVersionTrigger

LOOK = "airflow_mlops_provider.sensors.registry.look"
FOUND = {"version": "3", "name": "delay"}


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_version_that_is_there_is_handed_over_at_once(deferrable):
    sensor = ModelVersionSensor(task_id="t", name="delay", newer_than="2", deferrable=deferrable)
    with patch(LOOK, return_value=FOUND) as look:
        assert sensor.execute({}) == FOUND
    look.assert_called_once_with("mlflow_default", "delay", None, "2")


def test_it_defers_with_all_it_was_told():
    sensor = ModelAliasSensor(
        task_id="t",
        name="delay",
        alias="champion",
        newer_than="2",
        mlflow_conn_id="other",
        deferrable=True,
        poke_interval=7,
    )
    with patch(LOOK, return_value=None), pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    assert deferred.value.trigger.serialize()[1] == {
        "name": "delay",
        "alias": "champion",
        "newer_than": "2",
        "poke_interval": 7,
        "mlflow_conn_id": "other",
    }
    assert sensor.execute_complete({}, FOUND) == FOUND


def test_what_can_never_come_fails_for_good():
    sensor = ModelVersionSensor(task_id="t", name="delay", newer_than="latest")
    error = ParameterError("newer_than")
    with patch(LOOK, side_effect=error), pytest.raises(AirflowFailException, match="newer_than"):
        sensor.execute({})


async def test_the_trigger_fires_once_the_version_is_there():
    trigger = ModelVersionTrigger(
        name="delay", alias=None, newer_than=None, poke_interval=0, mlflow_conn_id="c"
    )
    with patch("airflow_mlops_provider.triggers.registry.look", side_effect=[None, FOUND]):
        assert [event.payload async for event in trigger.run()] == [FOUND]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr("airflow_mlops_provider.triggers.registry._HAND_OVER_SECONDS", 0)


async def changes_told(trigger, states, n):
    async def first():
        return [event.payload async for event in take(trigger.run(), n)]

    async def take(events, n):
        for _ in range(n):
            yield await anext(events)

    with patch.object(ModelRegistryTrigger, "_look", side_effect=[*states, *[states[-1]] * 50]):
        told = await asyncio.wait_for(first(), 5)
    return [change for payload in told for change in payload["changes"]]


STATES = [
    RegistryState(1, {"champion": "1"}),
    None,  # the registry did not answer
    RegistryState(2, {"champion": "1", "challenger": "2"}),
    RegistryState(2, {"champion": "2"}),
]


async def test_changes_become_events_and_what_was_there_before_does_not():
    trigger = ModelRegistryTrigger(name="delay", poke_interval=0)
    told = await changes_told(trigger, STATES, 2)
    assert [(each["event"], each["version"], each["alias"]) for each in told] == [
        ("version_created", "2", None),
        ("alias_set", "2", "challenger"),
        ("alias_set", "2", "champion"),
        ("alias_deleted", None, "challenger"),
    ]
    assert told[2]["previous"] == "1"


async def test_only_what_was_asked_for_is_told():
    trigger = ModelRegistryTrigger(
        name="delay", events=["alias_set"], aliases=["champion"], poke_interval=0
    )
    (told,) = await changes_told(trigger, STATES, 1)
    assert (told["alias"], told["version"]) == ("champion", "2")


async def test_a_restarted_triggerer_goes_on_from_the_state_it_kept():
    trigger = ModelRegistryTrigger(name="delay", poke_interval=0)
    trigger.asset_state_store = AsyncMock()
    trigger.asset_state_store.aget.return_value = STATES[0].to_json()
    (told,) = await changes_told(trigger, [RegistryState(1, {"champion": "1", "x": "1"})], 1)
    assert told["alias"] == "x"


@pytest.mark.parametrize(
    "trigger",
    [
        ModelRegistryTrigger(name="delay", poke_interval=0),
        ModelVersionTrigger(
            name="delay", alias=None, newer_than=None, poke_interval=0, mlflow_conn_id="c"
        ),
    ],
)
async def test_a_registry_that_does_not_answer_is_waited_for(trigger):
    hook = "airflow_mlops_provider.triggers.registry.MlflowHook.get_conn"
    with patch(hook, side_effect=MlflowUnavailableError("down")):
        assert trigger._look() is None


async def test_a_state_is_kept_only_after_its_events_were_handed_over():
    trigger = ModelRegistryTrigger(name="delay", poke_interval=0)
    trigger.asset_state_store = AsyncMock()
    trigger.asset_state_store.aget.return_value = STATES[0].to_json()
    await changes_told(trigger, [STATES[2]], 1)
    trigger.asset_state_store.aset.assert_not_awaited()


def test_the_trigger_is_made_anew_from_what_it_serializes():
    path, arguments = ModelRegistryTrigger(name="delay", events=["alias_set"]).serialize()
    assert path.endswith("registry.ModelRegistryTrigger")
    assert ModelRegistryTrigger(**arguments).serialize() == (path, arguments)
