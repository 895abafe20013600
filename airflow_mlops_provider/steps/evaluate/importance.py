"""Permutation importance of any pyfunc model (Breiman 2001; Fisher, Rudin and Dominici 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.inspection import permutation_importance

from airflow_mlops_provider.records import Importance
from airflow_mlops_provider.steps.evaluate.answers import predict_answers, signature_names
from airflow_mlops_provider.steps.metrics.figures import Figure, Sample

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MAX_ROWS = 5_000
MAX_FEATURES = 50


def importance_of(
    model: Any,
    frame: pd.DataFrame,
    truth: NDArray[np.float64],
    figure: Figure,
    *,
    repeats: int,
    seed: int,
) -> list[Importance]:
    """Return how much worse ``figure`` gets when a column is shuffled, at most 50 columns.

    At most 5,000 rows are asked, drawn by ``seed``; a negative mean is luck.
    """
    names = signature_names(model)
    rows = np.random.default_rng(seed).permutation(len(frame))[:MAX_ROWS]
    sign = 1 if figure.greater_is_better else -1

    def score(_: Any, inputs: pd.DataFrame, labels: NDArray[np.float64]) -> float:
        found = figure.estimate(Sample.of(labels, predict_answers(model, inputs)))
        return float("nan") if found is None else sign * found.value

    found = permutation_importance(
        _Fitted(),
        frame[names].iloc[rows],
        truth[rows],
        scoring=score,
        n_repeats=repeats,
        random_state=seed,
    )
    ranked = sorted(
        zip(names, found.importances_mean, found.importances_std, strict=True),
        key=lambda each: -each[1],
    )
    return [
        Importance(feature=name, mean=float(mean), std=float(std))
        for name, mean, std in ranked[:MAX_FEATURES]
    ]


class _Fitted:
    """What scikit-learn asks of an estimator whose scorer does all the work."""

    def fit(self, *_: Any) -> _Fitted:
        return self
