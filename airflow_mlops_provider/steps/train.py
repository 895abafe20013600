"""Train a model: build the estimator, read its rows, fit it, and log it to MLflow.

1. ``estimators.py`` builds the estimator from its import path or description.
2. ``fit.py`` fits it, with weights and early stopping.
3. ``model_log.py`` logs it, so that it can be served.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.records import DatasetRef, ModelRef, TrainingSpec
from airflow_mlops_provider.steps.environment import log_environment
from airflow_mlops_provider.steps.estimators import build_estimator, named_paths
from airflow_mlops_provider.steps.fit import TrainingRows, checked_weights, fit_model, iterations
from airflow_mlops_provider.steps.importing import import_object
from airflow_mlops_provider.steps.model_log import (
    log_code,
    log_model,
    log_model_metrics,
    log_params,
    require_finite,
)
from airflow_mlops_provider.steps.snapshot import read_dataset

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo

    from airflow_mlops_provider.steps.track import TaskRun


def train_model(
    spec: TrainingSpec, *, run: TaskRun, factory: Callable[..., Any] | None = None
) -> ModelRef:
    """Fit the estimator of ``spec`` on its dataset and log it to ``run``.

    The same ``spec`` on the same versions of the libraries gives the same model, unless its
    ``seed`` is None.

    Args:
        spec: What to train, and on what; rows without a target are left out.
        run: The open MLflow run, which keeps ``spec`` as well.
        factory: What ``spec.estimator`` names, if that cannot be imported.

    Raises:
        DataError: a column is missing, no row has a target, or all have the same, or a target
            or weight is no finite number.
        ParameterError: the estimator cannot be built, takes no weights or knows no early
            stopping; features are empty, doubled, or hold the target.
        ModelError: the estimator refuses its parameters or the data, diverged, or the model
            contains types that nobody trusted.
    """
    _require_json(spec.params)
    model = build_estimator(factory or spec.estimator, spec.params, spec.seed)
    rows = read_rows(spec)
    run.log_dataset(spec.dataset, "training")
    log_params(run, _logged_params(spec))
    start = perf_counter()
    fit_model(model, rows, class_weight=spec.class_weight, early_stopping=spec.early_stopping)
    metrics = {
        "train_rows": float(len(rows.target)),
        "train_unlabelled": float(spec.dataset.n_rows - len(rows.target)),
        "train_features": float(len(spec.features)),
        "fit_seconds": perf_counter() - start,
    }
    if (count := iterations(model)) is not None:
        metrics["train_iterations"] = count
    run.log_record(spec)
    log_environment(run.client, run.run_id)  # of this process: it may not be Airflow's
    log_code(run, [factory] if factory else map(import_object, named_paths(spec.estimator)))
    logged = log_model(model, rows.features, spec, run)
    log_model_metrics(run, logged.model_id, metrics)
    return ModelRef(
        model_uri=logged.model_uri,
        model_id=logged.model_id,
        run_id=run.run_id,
        target=spec.target,
        features=spec.features,
        params=spec.params,
        metrics=metrics,
        train_hash=spec.dataset.logical_hash,
    )


def model_ref(
    logged: ModelInfo,
    *,
    dataset: DatasetRef | Mapping[str, Any],
    target: str,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> ModelRef:
    """Return what evaluation and registration need to know of a model of any framework.

    Args:
        logged: What ``log_model`` of an MLflow flavour returned; its signature names the
            features.
        dataset: What the model learned from.
        target: Column it learned to predict.
        params: What it was trained with.
        metrics: Figures of its training.

    Raises:
        ModelError: the model was logged without a run or a signature, or a metric is not finite.
    """
    inputs = logged.signature.inputs if logged.signature else None
    if inputs is None or not inputs.has_input_names() or logged.run_id is None:
        raise ModelError(
            "Expected a model logged in a run with a signature that names its input columns, got "
            f"{logged.signature}. Pass `signature=infer_signature(frame, predictions)` to "
            "log_model."
        )
    require_finite(metrics or {})
    return ModelRef(
        model_uri=logged.model_uri,
        model_id=str(logged.model_id),
        run_id=logged.run_id,
        target=target,
        features=list(inputs.input_names()),
        params=dict(params or {}),
        metrics=dict(metrics or {}),
        train_hash=DatasetRef.from_xcom(dataset).logical_hash,
    )


def read_rows(spec: TrainingSpec) -> TrainingRows:
    """Return the rows of the dataset that have a target, in its order."""
    _check_columns(spec)
    dataset, target = spec.dataset, spec.target
    weight = [spec.weight_column] if spec.weight_column else []
    frame = read_dataset(dataset, columns=[*spec.features, target, *weight])
    frame = frame[frame[target].notna()]
    if frame.empty:
        raise DataError(
            f"Expected labels in column {target!r} of dataset {dataset.name!r}, got none in "
            f"{dataset.n_rows} rows. Wait for labels, or choose another window."
        )
    features = frame[spec.features]
    if spec.categorical:
        features = features.astype(dict.fromkeys(spec.categorical, "category"))
    place = f"column {spec.weight_column!r} of dataset {dataset.name!r}"
    weights = checked_weights(frame[spec.weight_column], place) if spec.weight_column else None
    return TrainingRows(features, _numbers(frame[target], dataset), weights)


def _check_columns(spec: TrainingSpec) -> None:
    features, given = spec.features, spec.dataset
    asked = [*features, spec.target, *([spec.weight_column] if spec.weight_column else [])]
    if not features:
        raise ParameterError.of("features", "train", "a list of at least one column", features)
    twice = [name for name, count in Counter(asked).items() if count > 1]
    if twice:
        raise ParameterError(
            f"The features, target and weight_column parameters of train must name each column "
            f"once. Got {twice} twice: a model must not learn from what it is to predict."
        )
    if unknown := [name for name in spec.categorical if name not in features]:
        raise ParameterError.of("categorical", "train", f"some of {features}", unknown)
    if missing := [name for name in asked if name not in given.columns]:
        raise DataError(
            f"Expected columns {missing} in dataset {given.name!r}, got {sorted(given.columns)}. "
            "Correct `features` or `target`, or the step before."
        )


def _require_json(params: Mapping[str, Any]) -> None:
    """Refuse what could not be read back when the model is to be trained again."""
    for name, value in params.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise ParameterError.of(
                f"params.{name}", "train", "a JSON value, or `{use: ..., with: ...}`", value
            ) from error


def _numbers(labels: pd.Series[Any], dataset: DatasetRef) -> pd.Series[Any]:
    where = f"column {labels.name!r} of dataset {dataset.name!r}"
    if not pd.api.types.is_numeric_dtype(labels) or str(labels.dtype) == "boolean":
        try:
            return labels.astype(int)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"Expected numbers or booleans in {where}, got text: {error}. Encode the target, "
                "or name another column."
            ) from error
    infinite = int(np.isinf(labels.to_numpy(dtype=float)).sum())
    if infinite:
        raise DataError(
            f"Expected finite numbers in {where}, got {infinite} infinite ones. Correct the "
            "step before."
        )
    return labels


def _logged_params(spec: TrainingSpec) -> dict[str, Any]:
    described = spec.estimator
    named = {
        "estimator": described if isinstance(described, str) else json.dumps(described),
        "target": spec.target,
        "n_features": len(spec.features),
        "seed": spec.seed,
        "class_weight": spec.class_weight,
        "weight_column": spec.weight_column,
    }
    if spec.early_stopping:
        named["early_stopping"] = spec.early_stopping.to_xcom()
    return {**spec.params, **{name: value for name, value in named.items() if value is not None}}
