"""Judge a model on rows it never saw: figures with intervals, overall and by slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from airflow_mlops_provider import workspace as ws
from airflow_mlops_provider.exceptions import DataError, ModelError
from airflow_mlops_provider.records import DatasetRef, EvaluationReport, Metric, SliceMetric
from airflow_mlops_provider.steps.metrics import (
    auc_with_interval,
    log_loss_rows,
    mean_with_interval,
    squared_error_rows,
)
from airflow_mlops_provider.steps.snapshot import read_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_mlops_provider.steps.track import TaskRun

Task = Literal["classification", "regression"]


def evaluate_model(
    model_uri: str,
    dataset: DatasetRef,
    *,
    target: str,
    workspace: str,
    run: TaskRun,
    task: Task = "classification",
    slices: Sequence[str] = (),
    min_slice_rows: int = 100,
) -> EvaluationReport:
    """Score ``dataset`` with a model and measure how well it did.

    Args:
        model_uri: Any MLflow model with a pyfunc flavour.
        dataset: Rows the model did not learn from; those without a target are left out.
        target: Column with the truth: 0 and 1 for classification, a number for regression.
        workspace: Where the predictions are kept, under ``evaluations/``.
        run: The open MLflow run; figures are logged to it.
        task: Decides the metrics: ``auc``, ``log_loss``, ``brier`` or ``mse``, ``mae``.
        slices: Columns by whose values the first metric is also computed.
        min_slice_rows: Slices with fewer rows, or with one class only, are left out.

    Raises:
        ModelError: the model cannot be loaded.
        DataError: the dataset lacks a column, or rows with a target.
    """
    frame = _labelled(dataset, target)
    score = predict_score(load_model(model_uri), frame)
    truth = frame[target].to_numpy(dtype=float)
    report = EvaluationReport(
        model_uri=model_uri,
        dataset_uri=dataset.uri,
        task=task,
        metrics=_METRICS[task](truth, score),
        slices=_slices(frame, truth, score, task, slices, min_slice_rows),
        predictions_uri=_store_predictions(truth, score, workspace),
    )
    run.log_metrics({name: metric.value for name, metric in report.metrics.items()})
    return report


def load_model(model_uri: str) -> Any:
    """Load a pyfunc model; an unknown name or alias is a ``ModelError``."""
    import airflow_mlops_provider.steps.skops_io  # noqa: F401 - first, so that it is quiet

    try:
        return mlflow.pyfunc.load_model(model_uri)
    except MlflowException as error:
        raise ModelError(
            f"Expected an MLflow model at {model_uri!r}, got: {error}. Check the name, version "
            "or alias in the registry."
        ) from error


def predict_score(model: Any, frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return one number a row, shape (n,): the last class's probability, or the prediction.

    Raises:
        DataError: a column of the model's signature is missing.
        ModelError: the model answered with something else than a row of numbers for each row.
    """
    names = model.metadata.get_input_schema().input_names()
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(
            f"Expected columns {missing} for the model, got {sorted(frame.columns)}. Give it the "
            "features it was trained on."
        )
    inputs = frame[names]
    numbers = inputs.select_dtypes(include=["integer", "bool"]).columns
    output = np.asarray(model.predict(inputs.astype(dict.fromkeys(numbers, float))), dtype=float)
    if output.shape[0] != len(frame):
        raise ModelError(f"Expected {len(frame)} predictions, got an output of {output.shape}.")
    return output.reshape(len(frame), -1)[:, -1]


def _labelled(dataset: DatasetRef, target: str) -> pd.DataFrame:
    if target not in dataset.columns:
        raise DataError(
            f"Expected the target column {target!r} in dataset {dataset.name!r}, got "
            f"{sorted(dataset.columns)}. Correct `target`, or the step before."
        )
    frame = read_dataset(dataset)
    frame = frame[frame[target].notna()].reset_index(drop=True)
    if frame.empty:
        raise DataError(
            f"No row of dataset {dataset.name!r} has a value in {target!r} to judge by. Wait "
            "for labels, or choose another window."
        )
    return frame


def _classification(truth: NDArray[np.float64], score: NDArray[np.float64]) -> dict[str, Metric]:
    return {
        "auc": auc_with_interval(truth, score),
        "log_loss": mean_with_interval(log_loss_rows(truth, score)),
        "brier": mean_with_interval(squared_error_rows(truth, score)),
    }


def _regression(truth: NDArray[np.float64], score: NDArray[np.float64]) -> dict[str, Metric]:
    return {
        "mse": mean_with_interval(squared_error_rows(truth, score)),
        "mae": mean_with_interval(np.abs(truth - score)),
    }


_METRICS = {"classification": _classification, "regression": _regression}


def _slices(
    frame: pd.DataFrame,
    truth: NDArray[np.float64],
    score: NDArray[np.float64],
    task: Task,
    columns: Sequence[str],
    min_rows: int,
) -> list[SliceMetric]:
    found = []
    for column in columns:
        if column not in frame.columns:
            raise DataError(
                f"Expected the slice column {column!r}, got {sorted(frame.columns)}. Correct "
                "`slices`, or the step before."
            )
        for value, rows in frame.groupby(column, observed=True).indices.items():
            if len(rows) < min_rows or (task == "classification" and len(set(truth[rows])) < 2):
                continue
            name, metric = next(iter(_METRICS[task](truth[rows], score[rows]).items()))
            found.append(
                SliceMetric(
                    column=column, value=str(value), metric=name, score=metric.value, n=len(rows)
                )
            )
    return found


def _store_predictions(
    truth: NDArray[np.float64], score: NDArray[np.float64], workspace: str
) -> str:
    predictions = pd.DataFrame({"target": truth, "score": score})
    uri, _ = ws.store_by_content(
        ws.join(workspace, "evaluations"), ".parquet", predictions.to_parquet
    )
    return uri
