"""What a set of parameters is judged by: an estimator, rows, folds and a scorer.

Worker processes import this module, and therefore nothing of MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sklearn.metrics import get_scorer

from airflow_mlops_provider.steps.estimators import build_estimator
from airflow_mlops_provider.steps.fit import TrainingRows, fit_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_mlops_provider.records import TrainingSpec


def build(spec: TrainingSpec, factory: Callable[..., Any] | None, params: Mapping[str, Any]) -> Any:
    """Return the estimator of ``spec`` with ``params`` as well."""
    return build_estimator(factory or spec.estimator, {**spec.params, **params}, spec.seed)


def fitted(
    spec: TrainingSpec,
    factory: Callable[..., Any] | None,
    params: Mapping[str, Any],
    rows: TrainingRows,
) -> Any:
    """Return the estimator, fitted as the final model will be."""
    model = build(spec, factory, params)
    fit_model(model, rows, class_weight=spec.class_weight, early_stopping=spec.early_stopping)
    return model


@dataclass(frozen=True)
class Problem:
    """All it takes to score a set of parameters, in this process or in another."""

    spec: TrainingSpec
    factory: Callable[..., Any] | None
    rows: TrainingRows
    folds: list[tuple[NDArray[Any], NDArray[Any]]]
    """Numbers of the rows to learn from, and of those to be judged by."""
    scoring: str

    def scores(self, params: Mapping[str, Any]) -> Iterator[float]:
        """Fit and score fold after fold.

        Raises:
            ValueError: a score is not a finite number.
        """
        scorer = get_scorer(self.scoring)
        for number, (train, test) in enumerate(self.folds):
            model = fitted(self.spec, self.factory, params, self.part(train))
            judged = self.part(test)
            score = float(scorer(model, judged.features, judged.target))
            if not math.isfinite(score):
                raise ValueError(f"{self.scoring} is {score} on fold {number}")
            yield score

    def part(self, numbers: NDArray[Any]) -> TrainingRows:
        """Return some of the rows."""
        rows = self.rows
        weights = None if rows.weights is None else rows.weights[numbers]
        return TrainingRows(rows.features.iloc[numbers], rows.target.iloc[numbers], weights)
