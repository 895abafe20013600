from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk import AssetAlias
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.exceptions import RegistryConflictError
from airflow_mlops_provider.operators.degraded import RollbackDegradedModelOperator
from airflow_mlops_provider.records import (
    GateReason,
    ModelVersionRef,
    MonitoringReport,
    RollbackVerdict,
)
from airflow_mlops_provider.steps.rollback import RollbackRule

STEPS = "airflow_mlops_provider.steps.rollback"
REPORT = MonitoringReport(
    endpoint="e",
    n_predictions=9,
    n_labelled=9,
    error_rate=0.0,
    latency_p95_ms=None,
    drift=None,
    performance={},
    signals=["performance"],
    reasons=["worse"],
)


def verdict(outcome):
    reason = GateReason(check="superiority:auc", passed=True, detail="gains +0.1", n=9)
    return RollbackVerdict(
        outcome=outcome, champion_uri="models:/delay/2", previous_uri="p", reasons=[reason]
    )


def judged(outcome):
    return patch(f"{STEPS}.judge_previous", return_value=verdict(outcome))


@pytest.fixture
def client():
    hook = "airflow_mlops_provider.operators.degraded.ServingHook.get_conn"
    with patch(hook, return_value="a client") as get_conn:
        yield get_conn


@pytest.fixture
def moved():
    with patch(f"{STEPS}.go_back") as go_back:
        yield go_back


@pytest.fixture
def operator(version, dataset):
    def make(**changes):
        arguments = {"report": REPORT.to_xcom(), "labelled": dataset.to_xcom(), **changes}
        return RollbackDegradedModelOperator(
            task_id="t", champion=version(), previous=version(), **arguments
        )

    return make


def test_a_champion_that_is_not_proven_worse_stays(context, run, operator, moved, dataset, version):
    with judged("kept") as step:
        record = operator(min_rows="7", margin="0.01").execute(context)
    assert record == verdict("kept").to_xcom()
    moved.assert_not_called()
    given = ModelVersionRef.from_xcom(version())
    assert step.call_args.args == (
        REPORT,
        dataset,
        given,
        given,
        RollbackRule(min_rows=7, margin=0.01),
    )


def test_one_that_is_gives_way_with_its_traffic_and_tells_the_asset(
    context, run, operator, moved, client
):
    alias = AssetAlias("versions")
    context["outlet_events"] = {alias: MagicMock()}
    with judged("rolled_back"):
        record = operator(endpoint="e", outlets=[alias]).execute(context)
    assert record["endpoint"] == "e"
    assert moved.call_args.args[:3] == (run.client, "a client", "e")
    assert moved.call_args.kwargs == {"reason": "gains +0.1", "by": "a_dag/a_run/t"}
    asset = context["outlet_events"][alias].add.call_args.args[0]
    assert asset.uri.rstrip("/") == "mlflow-model://delay"


def test_without_an_endpoint_the_serving_host_is_not_asked(context, run, operator, moved, client):
    with judged("rolled_back"):
        operator().execute(context)
    client.assert_not_called()
    assert moved.call_args.args[1] is None


@pytest.mark.parametrize("n_events", [0, 2])
def test_the_report_is_that_of_the_newest_asset_event(context, run, operator, n_events):
    def event(day, **changes):
        extra = REPORT.to_xcom() | changes
        return SimpleNamespace(timestamp=datetime(2013, 7, day, tzinfo=UTC), extra=extra)

    events = [event(2, reasons=["newest"]), event(1)][:n_events]
    context["dag_run"] = SimpleNamespace(consumed_asset_events=events)
    with judged("kept") as step:
        operator(report=None, labelled=None).execute(context)
    report = step.call_args.args[0]
    assert (report and report.reasons) == (["newest"] if n_events else None)


def test_a_rival_who_moved_the_champion_fails_the_task_for_good(context, run, operator, moved):
    moved.side_effect = RegistryConflictError("found 3")
    with judged("rolled_back"), pytest.raises(AirflowFailException, match="found 3"):
        operator().execute(context)
