from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlops_provider.sensors.drift import DataDriftSensor
from airflow_mlops_provider.triggers import drift, looking
from tests.drift_reports import drift_report


def publish(workspace):
    from airflow_mlops_provider.steps.drift.history import publish_check

    report = publish_check(
        drift_report(),
        name="flights",
        workspace=workspace,
        window="2013-07-01",
        consecutive=1,
        checked_at=datetime(2013, 7, 1, tzinfo=UTC),
    )
    return report.to_xcom()


@pytest.mark.parametrize("deferrable", [False, True])
def test_drift_that_is_there_is_handed_over_at_once(workspace, deferrable):
    report = publish(workspace)
    sensor = DataDriftSensor(task_id="t", name="flights", deferrable=deferrable)
    assert sensor.execute({}) == report


def test_it_defers_with_all_it_was_told(workspace):
    publish(workspace)
    sensor = DataDriftSensor(
        task_id="t",
        name="flights",
        since="2013-07-02",
        deferrable=True,
        poke_interval=7,
        timeout=70,
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    assert deferred.value.timeout.total_seconds() == 70
    assert deferred.value.trigger.serialize()[1] == {
        "workspace": workspace,
        "name": "flights",
        "since": "2013-07-02",
        "poke_interval": 7,
    }


def test_a_time_that_is_none_fails_for_good(workspace):
    with pytest.raises(AirflowFailException, match="newer_than parameter"):
        DataDriftSensor(task_id="t", name="flights", since="noon").poke({})


async def test_the_trigger_fires_once_a_check_asks_for_retraining(workspace, monkeypatch):
    path, arguments = drift.DataDriftTrigger(
        workspace=workspace, name="flights", since=None, poke_interval=5
    ).serialize()
    assert path.endswith("triggers.drift.DataDriftTrigger")
    waits, reports = [], []

    async def check_meanwhile(seconds):
        waits.append(seconds)
        reports.append(publish(workspace))

    monkeypatch.setattr(looking, "FRESH_SECONDS", 0)
    monkeypatch.setattr(looking.asyncio, "sleep", check_meanwhile)
    trigger = drift.DataDriftTrigger(**arguments)
    assert [event.payload async for event in trigger.run()] == reports
    (waited,) = waits
    assert waited == pytest.approx(5, rel=0.2)
    sensor = DataDriftSensor(task_id="t", name="flights")
    assert sensor.execute_complete({}, reports[0]) == reports[0]


async def test_a_check_that_cannot_be_read_fails_for_good(workspace):
    publish(workspace)
    (file,) = Path(workspace, "reports/drift/flights").iterdir()
    file.write_text("torn")
    trigger = drift.DataDriftTrigger(
        workspace=workspace, name="flights", since=None, poke_interval=5
    )
    (event,) = [event.payload async for event in trigger.run()]
    with pytest.raises(AirflowFailException, match="is no drift check"):
        DataDriftSensor(task_id="t", name="flights").execute_complete({}, event)
