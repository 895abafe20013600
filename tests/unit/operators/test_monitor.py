from __future__ import annotations

from unittest.mock import patch

import pytest
from airflow.sdk import AssetAlias

from airflow_mlops_provider.assets import drift_asset, performance_asset
from airflow_mlops_provider.operators.monitor import MonitorModelOperator
from airflow_mlops_provider.records import Metric, MonitoringReport, PredictionBatchRef
from airflow_mlops_provider.steps.reports import find_signal

BATCH = PredictionBatchRef(uri="/w/p", n_rows=12, file_hash="f", model_versions=["models:/m/1"])
STEPS = "airflow_mlops_provider.steps"


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


class TestMonitor:
    @pytest.fixture
    def execute(self, context, run, workspace):
        def execute(found, **options):
            operator = MonitorModelOperator(
                task_id="t",
                endpoint="flights",
                predictions=BATCH.to_xcom(),
                workspace=workspace,
                **options,
            )
            with patch(f"{STEPS}.monitor.monitor_model", return_value=found) as step:
                assert operator.execute(context) == found.to_xcom()
            return step

        return execute

    def test_the_report_becomes_the_newest(self, execute, run, workspace, dataset):
        step = execute(
            report("drift"),
            labelled=dataset.to_xcom(),
            baseline="0.8",
            max_drop="0.1",
            min_rows="9",
        )
        assert find_signal(workspace, "flights") == report("drift")
        assert step.call_args.args == (BATCH, dataset)
        given = step.call_args.kwargs
        assert (given["max_drop"], given["min_rows"], given["baseline"]) == (0.1, 9, "0.8")
        run.log_metrics.assert_called_once_with({"auc": 0.7})

    @pytest.mark.parametrize(
        ("signals", "assets"),
        [
            ([], []),
            (["drift"], [drift_asset("flights")]),
            (["drift", "performance"], [drift_asset("flights"), performance_asset("flights")]),
        ],
    )
    def test_each_signal_is_an_event(self, execute, context, signals, assets):
        execute(report(*signals), outlets=[AssetAlias("retrain")])
        add = context["outlet_events"].__getitem__.return_value.add
        assert [call.args[0] for call in add.call_args_list] == assets
        assert all(
            call.kwargs["extra"] == report(*signals).to_xcom() for call in add.call_args_list
        )
