"""The comparison of two models' AUC on the same rows, against a paired bootstrap of 200 folds.

Both give the difference with its interval. The bootstrap resamples rows and asks scikit-learn.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn.metrics import roc_auc_score

from airflow_mlops_provider.steps.metrics.figures import Sample, figure_of
from benchmarks import Measure

FOLDS, MAX_SECONDS, MIN_SPEEDUP = 200, 2.0, 20


def run(quick: bool) -> list[Measure]:
    """Take 100,000 rows when quick, else a million; the bootstrap is timed on some of its folds."""
    n_rows, n_ours, n_folds = (100_000, 3, 4) if quick else (1_000_000, 5, 10)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, n_rows)
    first, second = (truth + rng.normal(scale=2, size=n_rows) for _ in range(2))
    ours = float(np.median([_seconds(_delong, truth, first, second) for _ in range(n_ours)]))
    fold = float(np.median([_seconds(_resampled, truth, first, second) for _ in range(n_folds)]))
    return [
        Measure(
            name=f"auc: {n_rows:,} rows",
            ours=ours,
            theirs=fold * FOLDS,
            unit="s",
            goal=f"at most {MAX_SECONDS} s, and {MIN_SPEEDUP} x faster than {FOLDS} folds",
            holds=ours <= MAX_SECONDS and fold * FOLDS >= MIN_SPEEDUP * ours,
            n=n_ours,
        )
    ]


def _seconds(call: object, *arguments: np.ndarray) -> float:
    assert callable(call)
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def _delong(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    figure = figure_of("auc", "classification")
    one, other = (figure.estimate(Sample.of(truth, score)) for score in (first, second))
    assert one is not None
    assert other is not None
    one.minus(other).metric()


def _resampled(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    rows = np.random.default_rng(1).integers(0, len(truth), len(truth))
    roc_auc_score(truth[rows], first[rows]) - roc_auc_score(truth[rows], second[rows])
