from __future__ import annotations

from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk import AssetAlias

from airflow_mlops_provider.assets import drift_asset, performance_asset
from airflow_mlops_provider.exceptions import ServingUnavailableError
from airflow_mlops_provider.operators import monitor
from airflow_mlops_provider.operators.monitor import (
    CompactPredictionLogOperator,
    JoinLabelsOperator,
    MonitorModelOperator,
)
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


class TestCompact:
    @pytest.fixture
    def client(self, monkeypatch):
        hook = MagicMock()
        monkeypatch.setattr(monitor, "ServingHook", hook)
        return hook.return_value.get_conn.return_value

    @pytest.fixture
    def compact_log(self):
        with patch(f"{STEPS}.compact.compact_log", return_value=BATCH) as step:
            yield step

    def test_open_segments_are_closed_before_the_log_is_read(
        self, context, run, client, compact_log
    ):
        compact_log.side_effect = lambda *_, **__: (
            client.rotate_logs.assert_called_once_with("flights") or BATCH
        )
        operator = CompactPredictionLogOperator(task_id="t", endpoint="flights", workspace="/w")
        assert operator.execute(context) == BATCH.to_xcom()
        compact_log.assert_called_once_with(
            "/w/serving/logs/flights",
            endpoint="flights",
            workspace="/w",
            window_start=None,
            window_end=None,
        )
        run.log_record.assert_called_once_with(BATCH)

    def test_a_host_that_is_down_is_a_warning(self, context, run, client, compact_log, caplog):
        client.rotate_logs.side_effect = ServingUnavailableError("nobody answers")
        operator = CompactPredictionLogOperator(
            task_id="t", endpoint="flights", log_folder="/logs", workspace="/w"
        )
        with patch.object(CompactPredictionLogOperator, "log", MagicMock()) as log:
            assert operator.execute(context) == BATCH.to_xcom()
        assert "nobody answers" in str(log.warning.call_args)
        assert compact_log.call_args.args == ("/logs",)


class TestJoinLabels:
    @pytest.fixture
    def join(self, context, run, dataset):
        def execute(labelled):
            operator = JoinLabelsOperator(
                task_id="t",
                predictions=BATCH.to_xcom(),
                labels=dataset.to_xcom(),
                label_key="flight",
                label_column="late",
                updated_column="",
                workspace="/w",
            )
            with patch(f"{STEPS}.monitor.join_labels", return_value=labelled) as step:
                result = operator.execute(context)
            step.assert_called_once_with(
                BATCH,
                dataset,
                key="entity_id",
                label_key="flight",
                label_column="late",
                workspace="/w",
                updated_column=None,
            )
            return result

        return execute

    def test_the_labelled_predictions_are_handed_over(self, join, run, dataset):
        assert join(dataset) == dataset.to_xcom()
        run.log_metrics.assert_called_once_with({"label_coverage": 0.25})

    def test_no_label_yet_is_none(self, join, run):
        assert join(None) is None
        run.log_metrics.assert_called_once_with({"label_coverage": 0.0})


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
