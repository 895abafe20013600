from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlops_provider.records import MonitoringReport
from airflow_mlops_provider.sensors.monitor import ModelPerformanceSensor
from airflow_mlops_provider.triggers import monitor

REPORT = MonitoringReport(
    endpoint="e",
    n_predictions=1,
    n_labelled=0,
    error_rate=0.0,
    latency_p95_ms=None,
    drift=None,
    performance={},
    signals=["drift"],
    reasons=["The inputs are drifted."],
)


def publish(workspace):
    from datetime import UTC, datetime

    from airflow_mlops_provider.steps.reports import publish_report

    reported_at = datetime(2013, 7, 1, tzinfo=UTC)
    return publish_report(REPORT, workspace=workspace, reported_at=reported_at).to_xcom()


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_signal_that_is_there_is_handed_over_at_once(workspace, deferrable):
    published = publish(workspace)
    sensor = ModelPerformanceSensor(task_id="t", endpoint="e", deferrable=deferrable)
    assert sensor.execute({}) == published


def test_it_defers_with_all_it_was_told(workspace):
    publish(workspace)
    sensor = ModelPerformanceSensor(
        task_id="t",
        endpoint="e",
        signals=("performance",),
        newer_than="2013-01-01",
        deferrable=True,
        poke_interval=7,
        timeout=70,
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    assert deferred.value.timeout.total_seconds() == 70
    assert deferred.value.trigger.serialize()[1] == {
        "workspace": workspace,
        "endpoint": "e",
        "signals": ["performance"],
        "newer_than": "2013-01-01",
        "poke_interval": 7,
    }


def test_an_unknown_signal_fails_for_good(workspace):
    with pytest.raises(AirflowFailException, match="signals parameter"):
        ModelPerformanceSensor(task_id="t", endpoint="e", signals=["fire"]).poke({})


async def test_the_trigger_fires_once_the_report_carries_a_signal(workspace, monkeypatch):
    _, arguments = monitor.ModelPerformanceTrigger(
        workspace=workspace, endpoint="e", signals=["drift"], newer_than=None, poke_interval=5
    ).serialize()
    waits = []

    async def report_meanwhile(seconds):
        waits.append((seconds, publish(workspace)))

    monkeypatch.setattr(monitor.asyncio, "sleep", report_meanwhile)
    trigger = monitor.ModelPerformanceTrigger(**arguments)
    payloads = [event.payload async for event in trigger.run()]
    assert [(5, payload) for payload in payloads] == waits
    sensor = ModelPerformanceSensor(task_id="t", endpoint="e")
    assert sensor.execute_complete({}, REPORT.to_xcom()) == REPORT.to_xcom()
