from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk import AssetAlias
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.assets import alert_asset, drift_asset, performance_asset
from airflow_mlops_provider.exceptions import MlflowUnavailableError, ParameterError
from airflow_mlops_provider.operators import base
from airflow_mlops_provider.operators.monitor import MonitorModelOperator
from airflow_mlops_provider.records import Metric, MonitoringReport, PredictionBatchRef

BATCH = PredictionBatchRef(uri="/w/p", n_rows=12, file_hash="f", model_versions=["models:/m/1"])
STEPS = "airflow_mlops_provider.steps.monitor"
DUE = datetime(2013, 7, 2, tzinfo=UTC)


def report(*signals):
    return MonitoringReport(
        endpoint="flights",
        n_predictions=10,
        n_labelled=10,
        error_rate=0.0,
        latency_p95_ms=None,
        drift=None,
        performance={"auc": Metric(value=0.7, low=0.6, high=0.8, n=10)},
        signals=list(signals),
        reasons=["Because."],
    )


@pytest.fixture
def context(context):
    dag_run = MagicMock(data_interval_end=DUE, run_after=DUE + timedelta(hours=1))
    return context | {"dag_run": dag_run}


@pytest.fixture
def execute(context, run):
    def execute(found, **options):
        operator = MonitorModelOperator(
            task_id="t",
            endpoint="flights",
            predictions=BATCH.to_xcom(),
            workspace="/w",
            **options,
        )
        check = MagicMock(report=found)
        with (
            patch(f"{STEPS}.check.check_model", return_value=check) as step,
            patch(f"{STEPS}.tracking.log_check") as log,
        ):
            assert operator.execute(context) == found.to_xcom()
        log.assert_called_once_with(run, check)
        return step

    return execute


def test_the_step_gets_what_was_rendered(execute, dataset):
    step = execute(
        report("drift"),
        labelled=dataset.to_xcom(),
        baseline="0.8",
        max_drop="0.1",
        min_rows="9",
        window="1d",
        offset="",
        consecutive="2",
    )
    assert step.call_args.args == (BATCH, dataset)
    given = step.call_args.kwargs
    assert (given["max_drop"], given["min_rows"], given["baseline"]) == (0.1, 9, "0.8")
    assert (given["window"], given["offset"], given["consecutive"]) == ("1d", None, 2)
    assert (given["due"], given["workspace"]) == (DUE, "/w")


def test_without_a_data_interval_it_is_due_when_it_was_to_run(execute, context):
    context["dag_run"].data_interval_end = None
    assert execute(report()).call_args.kwargs["due"] == DUE + timedelta(hours=1)


@pytest.mark.parametrize(("task", "baseline"), [("classification", 0.8), ("regression", 3.0)])
def test_a_version_tells_what_it_promised(execute, version, task, baseline):
    known = version(
        **{
            "mlops.baseline.auc": "0.8",
            "mlops.baseline.rmse": "3.0",
            "mlops.profile_uri": "/w/profile.json",
            "mlops.predictions_uri": "/w/evaluated.parquet",
        }
    )
    given = execute(report(), model_version=known, task=task).call_args.kwargs
    assert given["baseline"] == baseline
    assert (given["profile_uri"], given["model_uri"]) == ("/w/profile.json", "models:/delay/2")
    assert given["reference_predictions"] == "/w/evaluated.parquet"
    own = {"baseline": 0.5, "profile_uri": "/p", "reference_predictions": "/e", "model_uri": "m"}
    given = execute(report(), model_version=known, **own).call_args.kwargs
    assert {name: given[name] for name in own} == own


@pytest.mark.parametrize(
    ("signals", "assets"),
    [
        ([], []),
        (["drift"], [drift_asset]),
        (["drift", "performance"], [drift_asset, performance_asset]),
        (["kpi", "drift", "service", "quality"], [drift_asset, alert_asset]),
    ],
)
def test_signals_are_events_each_asset_once(execute, context, signals, assets):
    execute(report(*signals), outlets=[AssetAlias("retrain")])
    add = context["outlet_events"].__getitem__.return_value.add
    assert [call.args[0] for call in add.call_args_list] == [asset("flights") for asset in assets]
    assert all(call.kwargs["extra"] == report(*signals).to_xcom() for call in add.call_args_list)


def test_what_a_retry_cannot_mend_fails_for_good(context, run):
    operator = MonitorModelOperator(task_id="t", endpoint="e", predictions=BATCH.to_xcom())
    error = ParameterError("Correct it.")
    with (
        patch(f"{STEPS}.check.check_model", side_effect=error),
        pytest.raises(AirflowFailException, match="Correct it"),
    ):
        operator.execute(context)


def test_without_mlflow_nothing_is_reported_and_a_retry_may_help(context, monkeypatch):
    def unavailable(self):
        raise MlflowUnavailableError("nobody answers")

    monkeypatch.setattr(base.MlopsOperator, "open_experiment", unavailable)
    operator = MonitorModelOperator(task_id="t", endpoint="e", predictions=BATCH.to_xcom())
    with (
        patch(f"{STEPS}.check.check_model") as step,
        pytest.raises(MlflowUnavailableError, match="nobody answers"),
    ):
        operator.execute(context)
    step.assert_not_called()
