from __future__ import annotations

import json
from unittest.mock import MagicMock

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlops_provider.sensors.endpoint import EndpointHealthSensor
from airflow_mlops_provider.triggers import endpoint, looking
from airflow_mlops_provider.triggers.endpoint import EndpointHealthTrigger
from tests.serving_fake import with_champion


@pytest.fixture
def target(monkeypatch):
    fake = with_champion()
    hook = MagicMock()
    hook.return_value.get_conn.return_value = fake
    monkeypatch.setattr(endpoint, "ServingHook", hook)
    return fake


LIMITS = {"max_error_rate": 0.05, "window_seconds": 60, "min_requests": 10}


def sensor(**changes):
    return EndpointHealthSensor(task_id="t", endpoint="e", **changes)


@pytest.mark.parametrize(("deployment", "serves"), [(None, True), ("v1", True), ("v2", False)])
def test_it_looks_at_the_traffic(target, deployment, serves):
    assert sensor(deployment=deployment).poke({}).is_done is serves


def test_looking_again_and_again_leaves_no_connection_open(target):
    sensor().poke({})
    target.down = True
    sensor().poke({})
    assert target.closed == 2


def test_a_host_that_is_down_may_still_come(target):
    target.down = True
    assert not sensor().poke({})


def test_it_defers_only_when_it_has_to_wait(target):
    assert sensor(deferrable=True).execute({}) is None
    target.traffic = {}
    with pytest.raises(TaskDeferred) as deferred:
        sensor(deferrable=True, poke_interval=7, timeout=70).execute({})
    assert deferred.value.trigger.poke_interval == 7
    assert deferred.value.timeout.total_seconds() == 70


async def test_the_trigger_fires_once_the_endpoint_serves(target, monkeypatch):
    trigger = EndpointHealthTrigger(
        endpoint="e", deployment=None, poke_interval=5, serving_conn_id="c"
    )
    again = EndpointHealthTrigger(**trigger.serialize()[1])
    target.traffic = {}

    async def deploy(seconds):
        target.traffic = {"v1": 100}

    monkeypatch.setattr(looking, "FRESH_SECONDS", 0)
    monkeypatch.setattr(looking.asyncio, "sleep", deploy)
    assert [event.payload async for event in again.run()] == ["e"]


def test_arguments_are_templates():
    waiting = sensor(deployment="{{ x }}")
    waiting.render_template_fields({"x": "v3"})
    assert waiting.deployment == "v3"


def test_a_window_is_watched_from_poke_to_poke(target, monkeypatch):
    clock = iter([0, 30, 61, 122])
    monkeypatch.setattr(endpoint.time, "time", lambda: next(clock))
    waiting, found = sensor(**LIMITS), []
    for error_rate in (0, 0.5, 0.5, 0):
        target.serve(100, {"v1": error_rate})
        found.append(waiting.poke({}).is_done)
    assert found == [False, False, False, True]


async def test_the_trigger_goes_on_with_the_window_that_the_sensor_began(target, monkeypatch):
    clock = iter([0, 61])
    monkeypatch.setattr(endpoint.time, "time", lambda: next(clock))
    with pytest.raises(TaskDeferred) as deferred:
        sensor(deferrable=True, **LIMITS).execute({})
    target.serve(100)
    arguments = json.loads(json.dumps(deferred.value.trigger.serialize()[1]))
    events = [event.payload async for event in EndpointHealthTrigger(**arguments).run()]
    assert (events, arguments["since"]["at"]) == (["e"], 0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_error_rate": 2}, "max_error_rate"),
        ({"max_p95_ms": "fast"}, "max_p95_ms"),
        ({"max_error_rate": 0.1, "min_requests": 0}, "min_requests"),
        ({"max_error_rate": 0.1, "window_seconds": -1}, "window_seconds"),
        ({"max_error_rate": 0.1, "mode": "reschedule"}, "mode"),
    ],
)
def test_limits_that_cannot_be_kept_fail_for_good(target, changes, named):
    with pytest.raises(AirflowFailException, match=f"The {named} parameter"):
        sensor(**changes).poke({})
