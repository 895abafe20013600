"""Fit a scikit-learn estimator on a dataset and log it to MLflow so that it can be served.

The model is saved with skops, which loads no code that was not trusted by name; its
requirements are the versions it was fitted with, so that MLflow need not start a process to
infer them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
from mlflow.models import infer_signature
from sklearn.base import is_classifier

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.records import DatasetRef, ModelRef, TrainingSpec
from airflow_mlops_provider.steps.skops_io import dumps, get_untrusted_types
from airflow_mlops_provider.steps.snapshot import read_dataset

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.base import BaseEstimator

    from airflow_mlops_provider.steps.track import TaskRun

REQUIREMENTS = ("scikit-learn", "pandas", "numpy", "scipy", "skops")
TRUSTED = ("sklearn.", "numpy.", "functools.partial")
"""Whose types a saved model may hold; the function inside a partial is audited by itself."""
_SAMPLE_ROWS = 5


def train_model(
    spec: TrainingSpec, *, run: TaskRun, factory: Callable[..., Any] | None = None
) -> ModelRef:
    """Fit the estimator of ``spec`` on its dataset and log it to ``run``.

    Args:
        spec: What to train, and on what; rows without a target are left out.
        run: The open MLflow run, which keeps ``spec`` as well.
        factory: What ``spec.estimator`` names, if that cannot be imported.

    Raises:
        DataError: a column is missing, or no row has a target.
        ParameterError: the estimator cannot be built.
        ModelError: the estimator refuses its parameters or the data, or the model contains types
            that nobody trusted.
    """
    run.log_record(spec)
    model = build_estimator(factory or spec.estimator, spec.params)
    rows, labels = labelled_rows(spec.dataset, spec.features, spec.target)
    run.log_dataset(spec.dataset, "training")
    with mlflow.start_run(run_id=run.run_id):
        mlflow.log_params(_log_params(spec))
        _fit(model, rows, labels)
        logged = _log_model(model, rows, spec.trusted_types)
        metrics = {
            "train_rows": float(len(rows)),
            "train_unlabelled": float(spec.dataset.n_rows - len(rows)),
        }
        mlflow.log_metrics(metrics, model_id=logged.model_id)
    return ModelRef(
        model_uri=logged.model_uri,
        model_id=str(logged.model_id),
        run_id=run.run_id,
        target=spec.target,
        features=spec.features,
        params=spec.params,
        metrics=metrics,
        train_hash=spec.dataset.logical_hash,
    )


def import_path(estimator: str | Callable[..., Any]) -> str:
    """Return the import path of an estimator or factory."""
    if isinstance(estimator, str):
        return estimator
    name = getattr(estimator, "__qualname__", type(estimator).__qualname__)
    return f"{getattr(estimator, '__module__', '')}.{name}"


def build_estimator(estimator: str | Callable[..., Any], params: Mapping[str, Any]) -> Any:
    """Call ``estimator``, imported first if it is a path, with ``params``."""
    factory = _import(estimator) if isinstance(estimator, str) else estimator
    try:
        built = factory(**params)
    except TypeError as error:
        raise ParameterError(
            f"Expected params that {estimator!r} takes, got {sorted(params)}: {error}."
        ) from error
    if not hasattr(built, "fit"):
        raise ParameterError.of("estimator", "train", "something with a fit method", built)
    return built


def labelled_rows(
    dataset: DatasetRef, features: Sequence[str], target: str
) -> tuple[pd.DataFrame, pd.Series[Any]]:
    """Return the features, shape (n, k), and the target, shape (n,), of the labelled rows."""
    missing = [name for name in (*features, target) if name not in dataset.columns]
    if missing:
        raise DataError(
            f"Expected columns {missing} in dataset {dataset.name!r}, got "
            f"{sorted(dataset.columns)}. Correct `features` or `target`, or the step before."
        )
    frame = read_dataset(dataset, columns=[*features, target])
    frame = frame[frame[target].notna()]
    if frame.empty:
        raise DataError(
            f"Expected labels in column {target!r} of dataset {dataset.name!r}, got none in "
            f"{dataset.n_rows} rows. Wait for labels, or choose another window."
        )
    return frame[list(features)], _numbers(frame[target], dataset)


def _numbers(labels: pd.Series[Any], dataset: DatasetRef) -> pd.Series[Any]:
    if labels.dtype != object and str(labels.dtype) != "boolean":
        return labels
    try:
        return labels.astype(int)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"Expected numbers or booleans in column {labels.name!r} of dataset {dataset.name!r}, "
            f"got text: {error}. Encode the target, or name another column."
        ) from error


def _fit(model: Any, rows: pd.DataFrame, labels: pd.Series[Any]) -> None:
    try:
        model.fit(rows, labels)
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot learn {labels.name!r} from {list(rows.columns)}: "
            f"{error}. Correct its parameters, or encode what it cannot take."
        ) from error


def _import(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ParameterError.of(
            "estimator", "train", "the import path of an estimator or a factory", path
        ) from error
    if not callable(found):
        raise ParameterError.of("estimator", "train", "callable", path)
    return found  # type: ignore[no-any-return]  # an imported name has no type


def _log_params(spec: TrainingSpec) -> dict[str, Any]:
    named = {"estimator": spec.estimator, "target": spec.target, "n_features": len(spec.features)}
    return {**spec.params, **named}


def _log_model(model: BaseEstimator, rows: pd.DataFrame, trusted_types: Sequence[str]) -> Any:
    sample = rows.head(_SAMPLE_ROWS)
    predict = "predict_proba" if is_classifier(model) else "predict"
    return mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(_nullable(sample), np.asarray(getattr(model, predict)(sample))),
        pyfunc_predict_fn=predict,
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        serialization_format="skops",
        skops_trusted_types=_trusted(model, trusted_types),
    )


def _nullable(sample: pd.DataFrame) -> pd.DataFrame:
    """Widen whole numbers to floats, because a missing value may come at serving time."""
    numbers = sample.select_dtypes(include=["integer", "bool"]).columns
    return sample.astype(dict.fromkeys(numbers, float))


def _trusted(model: BaseEstimator, trusted_types: Sequence[str]) -> list[str]:
    unknown = get_untrusted_types(data=dumps(model))
    foreign = [
        name for name in unknown if not name.startswith(TRUSTED) and name not in trusted_types
    ]
    if foreign:
        raise ModelError(
            f"The model contains types that are not trusted: {foreign}. Name them in "
            "`trusted_types` if you know them, because loading a model runs their code."
        )
    return list(unknown)
