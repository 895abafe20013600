"""Join the labels that came to the predictions they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import fsspec
import pandas as pd

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef, PredictionBatchRef

LABEL = "label"
_SHOWN = 5


def join_labels(
    predictions: PredictionBatchRef,
    labels: DatasetRef,
    *,
    key: str = "entity_id",
    label_key: str,
    label_column: str,
    workspace: str,
    updated_column: str | None = None,
) -> DatasetRef | None:
    """Give each prediction the label that came for it; those still without one are left out.

    Args:
        predictions: What was predicted.
        labels: What turned out to be true, one row for each ``label_key``; rows without a label
            are taken as not having come yet.
        key: Column of the predictions to join on; several predictions may share a key.
        label_key: Column of the labels to join on; compared as text.
        label_column: Column of the labels with the truth; it becomes ``label``.
        workspace: fsspec URI of the workspace.
        updated_column: Column of the labels that orders corrections: the last one holds.

    Returns:
        All columns of the labelled predictions and ``label``, as the dataset
        ``{labels.name}-predictions``; None while no prediction has a label.

    Raises:
        DataError: a column is missing, or a key has two labels and no ``updated_column`` says
            which one holds.
    """
    predicted = _read_predictions(predictions, [key])
    wanted = [label_key, label_column, *([updated_column] if updated_column else [])]
    truth = _unique_labels(_read_labels(labels, wanted), labels.uri, *wanted)
    answer = pd.Series(truth[label_column].to_numpy(), index=_as_text(truth[label_key]))
    labelled = predicted.assign(**{LABEL: _as_text(predicted[key]).map(answer)})
    labelled = labelled[labelled[LABEL].notna()]
    if labelled.empty:
        return None
    return write_dataset(
        labelled.infer_objects(),
        name=f"{labels.name}-predictions",
        workspace=workspace,
        source=f"{predictions.uri} with {labels.uri}",
        window_start=predictions.window_start,
        window_end=predictions.window_end,
    )


def _read_predictions(predictions: PredictionBatchRef, columns: Sequence[str]) -> pd.DataFrame:
    with readable(predictions.uri), fsspec.open(predictions.uri, "rb") as file:
        frame = pd.read_parquet(file)
    _require(list(frame.columns), columns, predictions.uri)
    return frame


def _read_labels(labels: DatasetRef, columns: list[str]) -> pd.DataFrame:
    _require(list(labels.columns), columns, labels.uri)
    frame = read_dataset(labels, columns=list(dict.fromkeys(columns)))
    return frame[frame[columns[0]].notna() & frame[columns[1]].notna()]


def _unique_labels(
    labels: pd.DataFrame, uri: str, key: str, label: str, updated: str | None = None
) -> pd.DataFrame:
    if updated is not None:
        ordered = labels.sort_values(updated, kind="stable", na_position="first")
        return ordered.drop_duplicates(key, keep="last")
    repeated = labels.loc[labels.duplicated(key), key].unique()
    if len(repeated):
        raise DataError(
            f"Expected one {label!r} for each {key!r} in {uri}, got several for {len(repeated)} of "
            f"them ({', '.join(map(str, repeated[:_SHOWN]))}). Remove the repeated rows, or name "
            "in updated_column the time by which the last correction holds."
        )
    return labels


def _as_text(keys: pd.Series[Any]) -> pd.Series[Any]:
    """Return keys as text, so that the log's ``"7"`` meets the table's 7 (and pandas' 7.0)."""
    if pd.api.types.is_float_dtype(keys) and (keys.dropna() % 1 == 0).all():
        keys = keys.astype("Int64")
    return keys.astype("string")


def _require(present: Sequence[str], wanted: Sequence[str], uri: str) -> None:
    missing = [name for name in wanted if name not in present]
    if missing:
        raise DataError(
            f"Expected columns {missing} in {uri}, got {sorted(present)}. Correct the names, or "
            "the step that wrote it."
        )
