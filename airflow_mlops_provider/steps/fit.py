"""Fit an estimator: with sample and class weights, and until it learns nothing more.

Weights go to the last step of a Pipeline. Class weights are sample weights too, so that every
estimator takes them that takes ``sample_weight``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import has_fit_parameter

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from airflow_mlops_provider.records import EarlyStopping

_OWN_FRACTION = {"validation_fraction", "n_iter_no_change"}


@dataclass(frozen=True)
class TrainingRows:
    """What an estimator learns from, in the order of the dataset."""

    features: pd.DataFrame
    """Shape (n, k)."""
    target: pd.Series[Any]
    """Shape (n,)."""
    weights: NDArray[np.float64] | None = None
    """Shape (n,); None weighs all rows alike."""


def fit_model(
    model: Any,
    rows: TrainingRows,
    *,
    class_weight: Literal["balanced"] | Mapping[str, float] | None = None,
    early_stopping: EarlyStopping | None = None,
) -> None:
    """Fit ``model`` in place.

    With ``early_stopping``, an estimator whose ``fit`` takes ``X_val`` (scikit-learn's histogram
    gradient boosting) is judged on the last rows and does not learn from them; one with a
    ``validation_fraction`` of its own (SGD, MLP, GradientBoosting) holds out rows at random.

    Raises:
        ParameterError: the estimator takes no weights, or knows no early stopping.
        DataError: there is one class only.
        ModelError: the estimator refuses its parameters or the data.
    """
    _require_variety(model, rows.target)
    if class_weight:
        rows = _class_weighted(model, rows, class_weight)
    try:
        if early_stopping is None:
            _fit(model, rows)
        else:
            _fit_until_it_stops(model, rows, early_stopping)
    except ParameterError:
        raise
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot learn {rows.target.name!r} from "
            f"{list(rows.features.columns)}: {error}. Correct its parameters, or encode what it "
            "cannot take."
        ) from error


def last_step(model: Any) -> Any:
    """Return the estimator at the end of a Pipeline, or the model itself."""
    return last_step(model.steps[-1][1]) if isinstance(model, Pipeline) else model


def iterations(model: Any) -> float | None:
    """Return how many iterations the fit took, where the estimator tells."""
    final = last_step(model)
    for name in ("n_iter_", "n_estimators_"):
        found = getattr(final, name, None)
        if found is not None and np.size(found):
            return float(np.max(found))
    return None


def _require_variety(model: Any, labels: pd.Series[Any]) -> None:
    values = labels.unique()
    if len(values) < 2:
        what = "at least two classes" if is_classifier(model) else "different numbers"
        raise DataError(
            f"Expected {what} in the target {labels.name!r}, got only {values[0]!r} in "
            f"{len(labels)} rows. Choose a longer window, or another target."
        )


def _fit(model: Any, rows: TrainingRows) -> None:
    if rows.weights is None:
        model.fit(rows.features, rows.target)
    else:
        model.fit(rows.features, rows.target, **{_weight_argument(model): rows.weights})


def _weight_argument(model: Any) -> str:
    """Return the name by which ``fit`` passes weights to the last step."""
    if isinstance(model, Pipeline):
        name, final = model.steps[-1]
        return f"{name}__{_weight_argument(final)}"
    if not has_fit_parameter(model, "sample_weight"):
        raise ParameterError(
            f"The weight_column and class_weight parameters of train need an estimator whose fit "
            f"takes sample_weight. {type(model).__name__} does not; leave them out, or choose "
            "another estimator."
        )
    return "sample_weight"


def _fit_until_it_stops(model: Any, rows: TrainingRows, stopping: EarlyStopping) -> None:
    _check(stopping)
    final = last_step(model)
    known = set(final.get_params(deep=False)) if hasattr(final, "get_params") else set()
    settings: dict[str, Any] = {"n_iter_no_change": stopping.patience}
    if "early_stopping" in known:
        settings["early_stopping"] = True
    if has_fit_parameter(final, "X_val"):
        final.set_params(**settings)
        _fit_judged_by_newest(model, rows, stopping.fraction)
    elif known >= _OWN_FRACTION:
        final.set_params(**settings, validation_fraction=stopping.fraction)
        _fit(model, rows)
    else:
        raise ParameterError(
            f"The early_stopping parameter of train needs an estimator whose fit takes X_val, or "
            f"with the parameters {sorted(_OWN_FRACTION)}. {type(final).__name__} has neither; "
            "leave it out, or train in a function of your own with @task.mlflow_run."
        )


def _check(stopping: EarlyStopping) -> None:
    if not 0 < stopping.fraction < 1:
        raise ParameterError.of(
            "early_stopping.fraction", "train", "between 0 and 1", stopping.fraction
        )
    if stopping.patience < 1:
        raise ParameterError.of("early_stopping.patience", "train", "at least 1", stopping.patience)


def _fit_judged_by_newest(model: Any, rows: TrainingRows, fraction: float) -> None:
    """Fit on the first rows, and let the last ones say when to stop."""
    cut = len(rows.target) - math.ceil(fraction * len(rows.target))
    if cut < 1:
        raise ValueError(f"{len(rows.target)} rows are too few to hold out {fraction:.0%} of them")
    features, newest = rows.features.iloc[:cut], rows.features.iloc[cut:]
    while isinstance(model, Pipeline):
        if len(model) > 1:
            head = model[:-1]
            features = head.fit_transform(features, rows.target.iloc[:cut])
            newest = head.transform(newest)
            model.steps[:-1] = head.steps  # with a cache, these were fitted and not ours
        model = model[-1]
    given = {} if rows.weights is None else {"sample_weight": rows.weights[:cut]}
    judged = {} if rows.weights is None else {"sample_weight_val": rows.weights[cut:]}
    target = rows.target
    model.fit(features, target.iloc[:cut], X_val=newest, y_val=target.iloc[cut:], **given, **judged)


def _class_weighted(
    model: Any, rows: TrainingRows, class_weight: Literal["balanced"] | Mapping[str, float]
) -> TrainingRows:
    """Multiply the weights of the rows with those of their classes."""
    if not is_classifier(model):
        raise ParameterError.of("class_weight", "train", "None for a regressor", class_weight)
    weights = _checked(_by_class(rows.target, class_weight), "class_weight")
    if rows.weights is not None:
        weights = weights * rows.weights
    return TrainingRows(rows.features, rows.target, weights)


def _by_class(
    labels: pd.Series[Any], class_weight: Literal["balanced"] | Mapping[str, float]
) -> NDArray[np.float64]:
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ParameterError.of("class_weight", "train", "'balanced' or a dict", class_weight)
        return np.asarray(compute_sample_weight("balanced", labels), dtype=float)
    try:
        by_class = {float(key): float(weight) for key, weight in class_weight.items()}
    except (TypeError, ValueError):
        by_class = {}
    classes = sorted(labels.unique().tolist())
    if not by_class or not set(by_class) <= set(map(float, classes)):
        raise ParameterError.of(
            "class_weight", "train", f"'balanced', or weights of classes {classes}", class_weight
        )
    return np.array([by_class.get(float(label), 1.0) for label in labels])


def checked_weights(values: pd.Series[Any], place: str) -> NDArray[np.float64]:
    """Return the weights of rows as numbers.

    Raises:
        DataError: one is missing, no number, infinite or negative, or all are zero.
    """
    try:
        return _checked(values.to_numpy(dtype=float, na_value=np.nan), place)
    except (ValueError, TypeError) as error:
        raise DataError(f"Expected numbers as weights in {place}, got text: {error}.") from error


def _checked(weights: NDArray[np.float64], place: str) -> NDArray[np.float64]:
    bad = ~np.isfinite(weights) | (weights < 0)
    if bad.any() or not weights.any():
        found = weights[bad][:3].tolist() if bad.any() else "zero in all rows"
        raise DataError(
            f"Expected weights of at least zero in {place}, some of them above, got {found} "
            f"({int(bad.sum())} of {len(weights)} rows). Correct the weights."
        )
    return weights
