from __future__ import annotations

import math
from unittest.mock import patch

import pytest

from airflow_mlops_provider.exceptions import PipelineStageError, ServiceError
from airflow_mlops_provider.steps.pipeline_cd.watch import Answer
from airflow_mlops_provider.triggers import pipeline_cd as module
from airflow_mlops_provider.triggers.pipeline_cd import EnvironmentTrigger, look

ENVIRONMENT = {
    "name": "production",
    "repository": "/forge",
    "ref": "production",
    "airflow_conn_id": "airflow",
    "bundle": "pipeline",
    "dag_id": "train",
}
WAITS, FOUND = Answer(waits_for="not yet"), Answer(found={"a": 1})


async def event_of(answers, until=math.inf):
    trigger = EnvironmentTrigger(
        environment=ENVIRONMENT,
        question="served",
        arguments={},
        poke_interval=0.001,
        until=until,
    )
    with patch.object(module, "look", side_effect=answers):
        (event,) = [event.payload async for event in trigger.run()]
    return event


@pytest.mark.asyncio
async def test_it_looks_until_there_is_an_answer():
    assert await event_of([WAITS, WAITS, FOUND]) == {"found": {"a": 1}}


@pytest.mark.asyncio
async def test_it_gives_up_in_time():
    assert await event_of([WAITS], until=0) == {"error": "Waited in vain: not yet."}


@pytest.mark.asyncio
async def test_it_tells_why_waiting_does_not_help():
    assert await event_of([WAITS, PipelineStageError("it fails")]) == {"error": "it fails"}


def test_it_can_be_made_anew_elsewhere():
    path, arguments = EnvironmentTrigger(
        environment=ENVIRONMENT, question="served", arguments={}, poke_interval=1, until=2
    ).serialize()
    assert path.endswith("pipeline_cd.EnvironmentTrigger")
    assert EnvironmentTrigger(**arguments).serialize() == (path, arguments)


def test_an_airflow_that_does_not_answer_is_waited_for():
    with patch.object(module.AirflowApiHook, "get_conn", side_effect=ServiceError("away")):
        assert look(ENVIRONMENT, "served", {}) == Answer(waits_for="away")
