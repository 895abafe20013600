"""Intervals by the bootstrap, for figures that have no influence function here.

Both models are resampled together, so that their difference is paired (Efron and Tibshirani 1993,
chapter 10).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import bootstrap

from airflow_mlops_provider.exceptions import ModelError
from airflow_mlops_provider.records import Metric

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.metrics.figures import Sample

RESAMPLES = 400
Custom = Callable[..., float]


def custom_metric(
    function: Custom, sample: Sample, *, confidence: float = 0.95, seed: int = 0
) -> Metric:
    """Return ``function(truth, score)`` with its percentile interval."""
    return _resampled(lambda rows: _called(function, sample.take(rows)), sample, confidence, seed)


def custom_difference(
    function: Custom, first: Sample, second: Sample, *, confidence: float = 0.95, seed: int = 0
) -> Metric:
    """Return how much larger ``function`` is for the first of two models on the same rows."""

    def difference(rows: np.ndarray) -> float:
        return _called(function, first.take(rows)) - _called(function, second.take(rows))

    return _resampled(difference, first, confidence, seed)


def _resampled(
    statistic: Callable[[np.ndarray], float], sample: Sample, confidence: float, seed: int
) -> Metric:
    rows = np.arange(len(sample))
    found = bootstrap(
        (rows,),
        statistic,
        vectorized=False,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    low, high = float(found.low), float(found.high)
    known = np.isfinite(low) and np.isfinite(high)
    return Metric(
        value=statistic(rows),
        low=low if known else None,
        high=high if known else None,
        n=len(sample),
    )


def _called(function: Custom, sample: Sample) -> float:
    value = float(function(sample.truth, sample.score))
    if not np.isfinite(value):
        name = getattr(function, "__name__", "function")
        raise ModelError(
            f"The metric {name!r} gave {value} on {len(sample)} rows. It has to be a finite "
            "number on any resample of the rows."
        )
    return value
