"""Five figures of decisions in 40 groups against fairlearn's ``MetricFrame``, with equal numbers.

Ours come with their variances, which ``MetricFrame`` does not give.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import pandas as pd
from fairlearn.metrics import (
    MetricFrame,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from sklearn.metrics import accuracy_score, precision_score

from airflow_mlops_provider.steps.metrics.figures import Sample, figure_of
from airflow_mlops_provider.steps.metrics.groups import by_group
from benchmarks import Measure

GROUPS, MIN_SPEEDUP = 40, 50
THEIRS = {
    "accuracy": accuracy_score,
    "precision": precision_score,
    "recall": true_positive_rate,
    "false_positive_rate": false_positive_rate,
    "selection_rate": selection_rate,
}


def run(quick: bool) -> list[Measure]:
    """Take 100,000 rows when quick, else a million."""
    n_rows, n = (100_000, 3) if quick else (1_000_000, 5)
    rng = np.random.default_rng(0)
    truth, score = rng.integers(0, 2, n_rows), rng.random(n_rows)
    groups = rng.integers(0, GROUPS, n_rows)
    ours, theirs = [], []
    for _ in range(n):
        seconds, found = _timed(lambda: _ours(truth, score, groups))
        their_seconds, frame = _timed(lambda: _theirs(truth, score, groups))
        np.testing.assert_allclose(found, frame)
        ours.append(seconds)
        theirs.append(their_seconds)
    return [
        Measure(
            name=f"slices: {n_rows:,} x {GROUPS}",
            ours=median(ours),
            theirs=median(theirs),
            unit="s",
            goal=f"at least {MIN_SPEEDUP} x faster, equal numbers",
            holds=median(theirs) >= MIN_SPEEDUP * median(ours),
            n=n,
        )
    ]


def _timed(call: object) -> tuple[float, np.ndarray]:
    assert callable(call)
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def _ours(truth: np.ndarray, score: np.ndarray, groups: np.ndarray) -> np.ndarray:
    sample = Sample.of(truth, score)
    figures = [figure_of(name, "classification") for name in THEIRS]
    columns = [by_group(figure, sample, groups, GROUPS) for figure in figures]
    return np.array([[each.value for each in column if each] for column in columns]).T


def _theirs(truth: np.ndarray, score: np.ndarray, groups: np.ndarray) -> np.ndarray:
    frame = MetricFrame(
        metrics=THEIRS,
        y_true=truth,
        y_pred=(score >= 0.5).astype(int),
        sensitive_features=pd.Series(groups, name="group"),
    )
    return frame.by_group.sort_index()[list(THEIRS)].to_numpy(dtype=float)
