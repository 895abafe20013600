from __future__ import annotations

from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.operators import predict
from airflow_mlops_provider.operators.predict import BatchPredictOperator
from airflow_mlops_provider.records import (
    ModelVersionRef,
    PredictionBatchRef,
    PredictionPartsRef,
)

BATCH = PredictionBatchRef(uri="/w/p", n_rows=3, file_hash="f", model_versions=["models:/m/1"])
VERSION = ModelVersionRef(
    name="m", version="1", model_uri="models:/m/1", model_id="i", run_id="r", aliases=[]
)


@pytest.mark.parametrize(
    "model", [{"model_uri": "models:/m/1"}, {"model_version": VERSION.to_xcom()}]
)
def test_a_model_is_named_by_uri_or_by_version(context, run, dataset, model):
    operator = BatchPredictOperator(
        task_id="t",
        dataset=dataset.to_xcom(),
        batch_rows="10",
        keep_columns=("id",),
        workspace="/w",
        **model,
    )
    with patch(
        "airflow_mlops_provider.steps.predict.batch_predict", return_value=BATCH
    ) as batch_predict:
        assert operator.execute(context) == BATCH.to_xcom()
    batch_predict.assert_called_once_with(
        "models:/m/1", dataset, workspace="/w", batch_rows=10, keep_columns=["id"]
    )
    run.log_record.assert_called_once_with(BATCH)
    run.log_dataset.assert_called_once_with(dataset, "prediction")


@pytest.mark.parametrize("model", [{}, {"model_uri": "u", "model_version": VERSION.to_xcom()}])
def test_neither_or_both_is_refused_for_good(context, run, dataset, model):
    operator = BatchPredictOperator(task_id="t", dataset=dataset.to_xcom(), **model)
    with pytest.raises(AirflowFailException, match="given, or else model_version"):
        operator.execute(context)


@pytest.mark.parametrize(
    "model", [{"model_uri": "models:/m@champion"}, {"model_version": VERSION.to_xcom()}]
)
def test_a_repository_lets_it_ask_what_the_model_learned_from(
    context, run, dataset, model, monkeypatch
):
    hook = MagicMock()
    monkeypatch.setattr(predict, "FeastHook", hook)
    operator = BatchPredictOperator(
        task_id="t", dataset=dataset.to_xcom(), workspace="/w", repo_path="repo", **model
    )
    with (
        patch(
            "airflow_mlops_provider.steps.features.pin.require_pinned_model",
            return_value="models:/m/1",
        ) as pinned,
        patch("airflow_mlops_provider.steps.predict.batch_predict", return_value=BATCH) as step,
    ):
        operator.execute(context)
    hook.assert_called_once_with("feast_default", "repo", "/w")
    store = hook.return_value.get_conn.return_value
    uri = model.get("model_uri", VERSION.model_uri)
    pinned.assert_called_once_with(store, run.client, uri)
    assert step.call_args.args == ("models:/m/1", dataset)


PARTS = PredictionPartsRef(
    uri="/w/p",
    manifest_uri="/w/p/m.json",
    n_rows=3,
    n_parts=1,
    n_reused=0,
    file_hash="f",
    columns=["score"],
    dataset_hash="f",
    model_versions=["models:/m/1"],
)


@pytest.mark.parametrize(
    ("given", "partitioning"),
    [
        (
            {"partition_by": ["origin"]},
            {"columns": ["origin"], "time_column": None, "period": None},
        ),
        (
            {"time_column": "time", "period": "day", "part": "1", "of": "2", "workers": "2"},
            {"columns": [], "time_column": "time", "period": "day"},
        ),
    ],
)
def test_partitions_are_predicted_one_by_one(context, run, dataset, given, partitioning):
    operator = BatchPredictOperator(
        task_id="t",
        dataset=dataset.to_xcom(),
        model_uri="runs:/1/model",
        workspace="/w",
        **given,
    )
    with patch(
        "airflow_mlops_provider.steps.predict_parts.predict_parts", return_value=PARTS
    ) as step:
        assert operator.execute(context) == PARTS.to_xcom()
    assert step.call_args.args == ("runs:/1/model", dataset)
    assert step.call_args.kwargs["partitioning"] == partitioning
    assert step.call_args.kwargs["of"] == int(given.get("of", 1))
    assert step.call_args.kwargs["feature_service"] is None
