from __future__ import annotations

import os
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_mlops_provider.sensors.data import NewDataSensor
from airflow_mlops_provider.triggers import data
from airflow_mlops_provider.triggers.data import NewDataTrigger


@pytest.fixture
def arrive(tmp_path):
    def arrives(age=60):
        path = tmp_path / "a.parquet"
        path.touch()
        os.utime(path, (path.stat().st_mtime - age,) * 2)
        return [f"file://{path}"]

    return arrives


def sensor(tmp_path, **changes):
    return NewDataSensor(task_id="t", path=f"{tmp_path}/*.parquet", **changes)


@pytest.mark.parametrize("deferrable", [False, True])
def test_files_that_are_there_are_given_at_once(tmp_path, arrive, deferrable):
    files = arrive()
    assert sensor(tmp_path, deferrable=deferrable).execute({}) == files


@pytest.mark.parametrize(
    "changes", [{"settle_seconds": "3600"}, {"since": "2999-01-01"}, {"path": "/no/such/*"}]
)
def test_it_waits_for_what_is_not_there_or_still_written(tmp_path, arrive, changes):
    arrive()
    arguments = {"path": f"{tmp_path}/*.parquet", **changes}
    assert not NewDataSensor(task_id="t", **arguments).poke({})


def test_it_defers_when_it_has_to_wait_and_hands_over_what_the_trigger_found(tmp_path):
    waiting = sensor(tmp_path, deferrable=True, poke_interval=7, timeout=70)
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({})
    assert deferred.value.trigger.poke_interval == 7
    assert deferred.value.timeout == timedelta(seconds=70)
    assert getattr(waiting, deferred.value.method_name)({}, ["a"]) == ["a"]


async def test_the_trigger_fires_once_files_arrive(tmp_path, arrive, monkeypatch):
    trigger = NewDataTrigger(f"{tmp_path}/*.parquet", 10.0, "2013-01-01", 5)
    again = NewDataTrigger(**trigger.serialize()[1])
    files = []

    async def wait(seconds):
        files.extend(arrive())

    monkeypatch.setattr(data.asyncio, "sleep", wait)
    assert [event.payload async for event in again.run()] == [files]
    assert files
    assert trigger.serialize()[0].endswith("triggers.data.NewDataTrigger")


def test_arguments_are_templates(tmp_path):
    waiting = sensor(tmp_path, since="{{ x }}")
    waiting.render_template_fields({"x": "2013-01-01"})
    assert waiting.since == "2013-01-01"
