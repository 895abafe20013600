"""Figures with their uncertainty, from each row's influence on them.

A figure of a sample is, up to a term of order 1/n, its true value plus the mean of the rows'
influences (Hampel 1974). So one vector gives its variance, and the difference of two models'
vectors on the same rows gives the variance of their paired difference, whatever the figure is.
For the area under the ROC curve this is the estimate of DeLong, DeLong and Clarke-Pearson (1988),
here with one sort (Sun and Xu 2014).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binomtest, norm

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.records import Metric

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

UNIT = (0.0, 1.0)
REAL = (-np.inf, np.inf)


@dataclass(frozen=True)
class Estimate:
    """A figure, its variance, and what its interval may be."""

    value: float
    variance: float
    """Infinite if there are too few rows to tell."""
    n: int
    """Rows it was computed from: for a precision those that were predicted, for example."""
    bounds: tuple[float, float] = REAL
    influence: Floats | None = None
    """Shape (rows of the sample,), mean zero; None where only the figure is needed."""
    trials: int | None = None
    """How many rows could have gone the other way, if not all."""

    def minus(self, other: Estimate) -> Estimate:
        """Return the difference to another model's figure on the same rows."""
        if self.influence is None or other.influence is None:
            raise ValueError("A paired difference needs the influence of each row.")
        width = self.bounds[1] - self.bounds[0]
        difference = self.influence - other.influence
        return estimate(self.value - other.value, difference, self.n, (-width, width))

    def metric(self, confidence: float = 0.95) -> Metric:
        """Return the figure with its two-sided interval; None where there is none."""
        if not np.isfinite(self.variance):
            return Metric(value=self.value, low=None, high=None, n=self.n)
        low, high = self._interval(confidence)
        return Metric(value=self.value, low=low, high=high, n=self.n)

    def _interval(self, confidence: float) -> tuple[float, float]:
        z = float(norm.ppf(0.5 + confidence / 2))
        if self.bounds != UNIT:
            half = z * float(np.sqrt(self.variance))
            low, high = self.value - half, self.value + half
            return max(low, self.bounds[0]), min(high, self.bounds[1])
        if not 0 < self.value < 1:  # no row went the other way: the normal law says nothing
            trials = self.n if self.trials is None else self.trials
            exact = binomtest(round(self.value * trials), trials)
            interval = exact.proportion_ci(confidence, method="wilson")
            return float(interval.low), float(interval.high)
        half = z * float(np.sqrt(self.variance)) / (self.value * (1 - self.value))
        middle = logit(self.value)
        return float(expit(middle - half)), float(expit(middle + half))


def estimate(
    value: float, influence: Floats, n: int | None = None, bounds: tuple[float, float] = REAL
) -> Estimate:
    """Return the estimate whose rows have ``influence``, shape (n,)."""
    rows = influence.size
    variance = float(influence.var(ddof=1)) / rows if rows > 1 else np.inf
    return Estimate(float(value), variance, rows if n is None else n, bounds, influence)


def mean_of(rows: Floats, bounds: tuple[float, float] = REAL) -> Estimate:
    """Return the mean of ``rows``, shape (n,).

    Raises:
        DataError: there are no rows.
    """
    if rows.size == 0:
        raise DataError("Expected at least one row to average, got none. Check the dataset.")
    return estimate(rows.mean(), rows - rows.mean(), bounds=bounds)


@dataclass(frozen=True)
class Ranks:
    """Scores in rising groups of equals: one sort serves every figure of an order."""

    group: NDArray[np.intp]
    """Each row's group, shape (n,)."""

    @classmethod
    def of(cls, score: Floats) -> Ranks:
        """Rank ``score``, shape (n,)."""
        order = np.argsort(score)
        ordered = score[order]
        group = np.empty(len(score), dtype=np.intp)
        group[order] = np.cumsum(np.concatenate([[False], ordered[1:] != ordered[:-1]]))
        return cls(group)

    def counts(self, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return positives and negatives by rising group."""
        hits = np.bincount(self.group, weights=positive).astype(float)
        return hits, np.bincount(self.group).astype(float) - hits


def area_under_roc(
    positive: NDArray[np.bool_], score: Floats, ranks: Ranks | None = None
) -> Estimate:
    """Return the area under the ROC curve; ties count one half.

    Args:
        positive: shape (n,).
        score: shape (n,), higher means more likely positive.
        ranks: Those of ``score``, if they are known.

    Raises:
        DataError: only one class is present.
    """
    _require_both(positive, "An AUC")
    ranks = ranks or Ranks.of(score)
    group, (hits, misses) = ranks.group, ranks.counts(positive)
    n_hits, n_misses = hits.sum(), misses.sum()
    below = (np.cumsum(misses) - misses / 2) / n_misses  # share of negatives a positive beats
    above = 1 - (np.cumsum(hits) - hits / 2) / n_hits  # share of positives that beat a negative
    area = float((below * hits).sum() / n_hits)
    rate = n_hits / len(score)
    spread = np.where(positive, (below[group] - area) / rate, (above[group] - area) / (1 - rate))
    rarer = int(min(n_hits, n_misses))
    found = estimate(area, spread, bounds=UNIT)
    return replace(found, trials=rarer, variance=found.variance if rarer > 1 else np.inf)


def average_precision(
    positive: NDArray[np.bool_], score: Floats, ranks: Ranks | None = None
) -> Estimate:
    """Return the mean precision at each positive's score, scikit-learn's ``average_precision``.

    Args:
        positive: shape (n,).
        score: shape (n,), higher means more likely positive.
        ranks: Those of ``score``, if they are known.

    Raises:
        DataError: there is no positive.
    """
    if not positive.any():
        raise DataError("An average precision needs a positive, got none. Use a longer window.")
    ranks = ranks or Ranks.of(score)
    group, (hits, misses) = ranks.group, ranks.counts(positive)
    n, rate = len(score), float(hits.sum()) / len(score)
    reached = np.cumsum(hits[::-1])[::-1] / n  # P(positive and scored at least so high)
    chosen = np.cumsum((hits + misses)[::-1])[::-1] / n  # P(scored at least so high)
    precision = reached / chosen
    found = float((hits * precision).sum() / n)
    gained = np.cumsum(hits / n / chosen)
    lost = np.cumsum(hits / n * precision / chosen)
    moved = positive * (precision + gained)[group] - lost[group] - found
    influence = moved / rate - found / rate**2 * (positive - rate)
    return estimate(found / rate, influence, n, UNIT)


def _require_both(positive: NDArray[np.bool_], what: str) -> None:
    if positive.all() or not positive.any():
        raise DataError(
            f"{what} needs both classes, got {int(positive.sum())} positives in "
            f"{positive.size} rows. Evaluate on a longer window."
        )


def checked(target: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    """Return labels, shape (n,), and scores, shape (n,) or (n, k), as finite numbers.

    Raises:
        DataError: their lengths differ, or a value is NaN or infinite.
    """
    y, s = np.asarray(target, dtype=float), np.asarray(score, dtype=float)
    if len(y) != len(s):
        raise DataError(f"Expected a score for each of {len(y)} labels, got {len(s)} scores.")
    if not np.isfinite(s).all() or not np.isfinite(y).all():
        raise DataError("Expected finite labels and scores, got NaN or infinity among them.")
    return y, s
