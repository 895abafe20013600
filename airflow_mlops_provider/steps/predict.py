"""Predict a whole dataset with a model, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.records import DatasetRef, PredictionBatchRef
from airflow_mlops_provider.steps.evaluate import load_model, predict_score, signature_names
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.workspace import checked_name, join, store_by_content

SCORE = "score"


def batch_predict(
    model_uri: str,
    dataset: DatasetRef,
    *,
    workspace: str,
    batch_rows: int = 100_000,
    keep_columns: Sequence[str] = (),
) -> PredictionBatchRef:
    """Write the model's ``score`` of each row of ``dataset``, in the dataset's order.

    Only ``batch_rows`` rows are in memory at a time. The scores are one float64 column: the last
    class's probability, or the prediction. The same model and dataset give the same file.

    Args:
        model_uri: Any MLflow model with a pyfunc flavour and a signature.
        dataset: Rows to predict.
        workspace: Where the batch is kept, under ``predictions/{dataset.name}/``.
        batch_rows: Rows that are predicted at once, at least 1.
        keep_columns: Columns of the dataset to keep beside the score (keys, times, labels).

    Raises:
        DataError: the dataset's file is gone or broken, or lacks a column.
        ModelError: the model cannot be loaded, has no signature, or fails on the rows.
        ParameterError: ``batch_rows`` is below 1, or ``score`` is among ``keep_columns``.
    """
    require_sizes(batch_rows, keep_columns, "batch_predict")
    model = load_model(model_uri)
    features = signature_names(model, model_uri)
    require_columns(dataset, features, "the model")
    require_columns(dataset, keep_columns, "keep_columns")
    folder = join(workspace, "predictions", checked_name(dataset.name, "name", "a dataset"))

    def write(uri: str) -> None:
        columns = list(dict.fromkeys([*features, *keep_columns]))
        with fsspec.open(uri, "wb") as target:
            batches = dataset_batches(dataset, columns, batch_rows)
            _write_scores(target, model, batches, _schema(dataset, keep_columns))

    uri, digest = store_by_content(folder, ".parquet", write)
    return PredictionBatchRef(
        uri=uri,
        n_rows=dataset.n_rows,
        file_hash=digest,
        model_versions=[model_uri],
        window_start=dataset.window_start,
        window_end=dataset.window_end,
    )


def require_sizes(batch_rows: int, keep_columns: Sequence[str], caller: str) -> None:
    """Raise a ParameterError unless rows can be predicted in batches beside the columns kept."""
    if batch_rows < 1:
        raise ParameterError.of("batch_rows", caller, "at least 1", batch_rows)
    if SCORE in keep_columns:
        constraint = f"free of {SCORE!r}, the model's own"
        raise ParameterError.of("keep_columns", caller, constraint, keep_columns)


def require_columns(dataset: DatasetRef, names: Sequence[str], reader: str) -> None:
    """Raise a DataError unless the dataset has all columns; ``reader`` is who needs them."""
    missing = [name for name in names if name not in dataset.columns]
    if missing:
        raise DataError(
            f"Expected columns {missing} for {reader} in dataset {dataset.name!r}, got "
            f"{sorted(dataset.columns)}. Correct the name, or the step before."
        )


def dataset_batches(
    dataset: DatasetRef, columns: Sequence[str], batch_rows: int
) -> Iterator[pa.Table]:
    """Yield the dataset in tables of at most ``batch_rows`` rows."""
    with readable(dataset.uri), fsspec.open(dataset.uri, "rb") as source:
        file = pq.ParquetFile(source, pre_buffer=False)  # which would hold the whole file
        for batch in file.iter_batches(batch_size=batch_rows, columns=list(columns)):
            yield pa.Table.from_batches([batch]).select(list(columns))


def _schema(dataset: DatasetRef, columns: Sequence[str]) -> pa.Schema:
    with readable(dataset.uri), fsspec.open(dataset.uri, "rb") as source:
        return pq.ParquetFile(source).schema_arrow.empty_table().select(list(columns)).schema


def _write_scores(target: Any, model: Any, batches: Iterator[pa.Table], kept: pa.Schema) -> None:
    schema = kept.append(pa.field(SCORE, pa.float64())).remove_metadata()
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        done = 0
        for batch in batches:
            scores = pa.array(_predict(model, batch, done), pa.float64())
            columns = [batch[name] for name in kept.names]
            writer.write_table(pa.table([*columns, scores], schema=schema))
            done += batch.num_rows


def _predict(model: Any, batch: pa.Table, done: int) -> Any:
    try:
        return predict_score(model, batch.to_pandas())
    except (ModelError, KeyError) as error:
        raise ModelError(
            f"The model failed on rows {done} to {done + batch.num_rows - 1}: {error}. Check the "
            "types of these rows against the model's signature."
        ) from error
