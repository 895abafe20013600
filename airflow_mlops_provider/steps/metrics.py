"""Figures with their uncertainty, for one model and for two models on the same rows.

Areas under the ROC curve use DeLong's covariance (DeLong, DeLong and Clarke-Pearson, 1988) in the
rank form of Sun and Xu (2014), O(n log n). Losses that are means over rows use the normal
approximation of a (paired) mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm, rankdata

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.records import Metric

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_EPSILON = 1e-15


def auc_with_interval(target: ArrayLike, score: ArrayLike, confidence: float = 0.95) -> Metric:
    """Return the area under the ROC curve with DeLong's interval.

    Args:
        target: shape (n,), zeros and ones.
        score: shape (n,), higher means more likely one.
        confidence: of the two-sided interval.

    Raises:
        DataError: only one class is present.
    """
    y, s = _checked(target, score)
    areas, covariance = _delong(y, s[np.newaxis, :])
    return _metric(areas[0], covariance[0, 0], len(y), confidence)


def auc_difference(
    target: ArrayLike, first: ArrayLike, second: ArrayLike, confidence: float = 0.95
) -> Metric:
    """Return AUC(first) - AUC(second) on the same rows, with its interval."""
    y, a = _checked(target, first)
    _, b = _checked(target, second)
    areas, covariance = _delong(y, np.vstack([a, b]))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return _metric(areas[0] - areas[1], variance, len(y), confidence, bounds=(-1.0, 1.0))


def mean_with_interval(values: ArrayLike, confidence: float = 0.95) -> Metric:
    """Return the mean of ``values`` (shape (n,)) with its normal interval."""
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        raise DataError("Expected at least one row to average, got none. Check the dataset.")
    variance = x.var(ddof=1) / x.size if x.size > 1 else np.inf
    return _metric(x.mean(), variance, x.size, confidence, bounds=(-np.inf, np.inf))


def log_loss_rows(target: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """Return each row's log loss, shape (n,); scores are clipped away from 0 and 1."""
    y = np.asarray(target, dtype=float)
    p = np.clip(np.asarray(score, dtype=float), _EPSILON, 1 - _EPSILON)
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log1p(-p)))


def squared_error_rows(target: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """Return each row's squared error (the Brier score's terms for probabilities)."""
    return np.asarray((np.asarray(target, dtype=float) - np.asarray(score, dtype=float)) ** 2)


def _checked(target: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    y, s = np.asarray(target, dtype=float), np.asarray(score, dtype=float)
    if y.shape != s.shape:
        raise DataError(f"Expected a score for each of {y.size} labels, got {s.size} scores.")
    if not np.isfinite(s).all() or not np.isfinite(y).all():
        raise DataError("Expected finite labels and scores, got NaN or infinity among them.")
    positive = y == 1
    if positive.all() or not positive.any():
        raise DataError(
            f"An AUC needs both classes, got {int(positive.sum())} positives in {y.size} rows. "
            "Evaluate on a longer window."
        )
    return positive, s


def _delong(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return areas, shape (k,), and their covariance, shape (k, k), for scores of shape (k, n)."""
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores, axis=1)
    v10 = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / n
    v01 = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / m
    covariance = _covariance(v10) / m + _covariance(v01) / n
    return v10.mean(axis=1), covariance


def _covariance(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    if rows.shape[1] < 2:
        return np.full((rows.shape[0], rows.shape[0]), np.inf)
    return np.atleast_2d(np.cov(rows))


def _metric(
    value: float,
    variance: float,
    n: int,
    confidence: float,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Metric:
    if not np.isfinite(variance):
        return Metric(value=float(value), low=None, high=None, n=n)
    half = float(norm.ppf(0.5 + confidence / 2)) * float(np.sqrt(max(variance, 0.0)))
    low, high = max(float(value) - half, bounds[0]), min(float(value) + half, bounds[1])
    return Metric(value=float(value), low=low, high=high, n=n)
