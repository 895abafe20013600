from __future__ import annotations

from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.operators import compact
from airflow_mlops_provider.operators.labels import JoinLabelsOperator
from airflow_mlops_provider.records import PredictionBatchRef
from airflow_mlops_provider.steps.labels import LabelCounts

BATCH = PredictionBatchRef(uri="/w/p", n_rows=12, file_hash="f", model_versions=["models:/m/1"])
STEPS = "airflow_mlops_provider.steps.labels"


@pytest.fixture
def client(monkeypatch):
    hook = MagicMock()
    monkeypatch.setattr(compact, "ServingHook", hook)
    return hook.return_value.get_conn.return_value.__enter__.return_value


@pytest.fixture
def join(context, run, client):
    """Join by an operator whose step gives ``labelled``; return both results."""

    def execute(step, labelled, **arguments):
        def joined(*_, counts, **__):
            counts.predictions, counts.labelled, counts.unknown = 12, 3, 2
            return labelled

        operator = JoinLabelsOperator(
            task_id="t", predictions=BATCH.to_xcom(), workspace="/w", **arguments
        )
        with patch(f"{STEPS}.{step}", side_effect=joined) as called:
            return operator.execute(context), called

    return execute


def test_labels_of_a_dataset_are_joined(join, run, dataset, client):
    result, step = join(
        "join_labels",
        dataset,
        labels=dataset.to_xcom(),
        label_key="flight",
        label_column="late",
        time_column="landed",
        updated_column="",
        max_delay="PT6H",
    )
    assert result == dataset.to_xcom()
    counts = LabelCounts(predictions=12, labelled=3, unknown=2)
    step.assert_called_once_with(
        BATCH,
        dataset,
        key="entity_id",
        label_key="flight",
        label_column="late",
        row_column=None,
        time_column="landed",
        updated_column=None,
        on_conflict="error",
        workspace="/w",
        max_delay="PT6H",
        clock_skew=0,
        counts=counts,
    )
    logged = run.log_metrics.call_args.args[0]
    assert logged == counts.metrics()
    assert (logged["label_coverage"], logged["labels_unknown"]) == (0.25, 2)
    client.rotate_logs.assert_not_called()


def test_feedback_is_closed_then_joined(join, dataset, client):
    result, step = join("join_feedback", dataset, endpoint="flights", clock_skew=5)
    assert result == dataset.to_xcom()
    client.rotate_logs.assert_called_once_with("flights")
    assert step.call_args.args == (BATCH,)
    given = step.call_args.kwargs
    assert given["log_folder"] == "/w/serving/feedback/flights"
    assert (given["endpoint"], given["clock_skew"]) == ("flights", 5)


def test_no_label_yet_is_none(join, run):
    result, _ = join("join_feedback", None, endpoint="flights")
    assert result is None
    run.log_record.assert_not_called()
    assert run.log_metrics.call_args.args[0]["labels_unknown"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of labels and endpoint"),
        ({"labels": {"name": "d"}, "endpoint": "e"}, "exactly one of labels and endpoint"),
        ({"labels": {"name": "d"}}, "Not a valid DatasetRef"),
    ],
)
def test_what_is_missing_is_named(join, arguments, message):
    with pytest.raises(AirflowFailException, match=message):
        join("join_labels", None, **arguments)


def test_columns_of_a_dataset_have_to_be_named(join, dataset):
    with pytest.raises(AirflowFailException, match="label_column parameter"):
        join("join_labels", None, labels=dataset.to_xcom(), label_key="flight")
