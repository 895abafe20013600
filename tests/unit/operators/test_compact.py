from __future__ import annotations

from unittest.mock import MagicMock, patch

import pytest

from airflow_mlops_provider.exceptions import ServingUnavailableError
from airflow_mlops_provider.operators import compact
from airflow_mlops_provider.operators.compact import CompactPredictionLogOperator
from airflow_mlops_provider.records import PredictionBatchRef

BATCH = PredictionBatchRef(uri="/w/p", n_rows=12, file_hash="f", model_versions=["models:/m/1"])


@pytest.fixture
def client(monkeypatch):
    hook = MagicMock()
    monkeypatch.setattr(compact, "ServingHook", hook)
    return hook.return_value.get_conn.return_value.__enter__.return_value


@pytest.fixture
def compact_log():
    step = "airflow_mlops_provider.steps.compact.compact_log"
    with patch(step, return_value=BATCH) as step:
        yield step


def test_open_segments_are_closed_before_the_log_is_read(context, run, client, compact_log):
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


def test_a_host_that_is_down_is_a_warning(context, run, client, compact_log):
    client.rotate_logs.side_effect = ServingUnavailableError("nobody answers")
    operator = CompactPredictionLogOperator(
        task_id="t", endpoint="flights", log_folder="/logs", workspace="/w"
    )
    with patch.object(CompactPredictionLogOperator, "log", MagicMock()) as log:
        assert operator.execute(context) == BATCH.to_xcom()
    assert "nobody answers" in str(log.warning.call_args)
    assert compact_log.call_args.args == ("/logs",)
