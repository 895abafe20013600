"""What a classifier's figures are before labels come, from its own probabilities.

Confidence-based performance estimation (CBPE) as NannyML documents it ("How it works: Estimation
of performance"): a calibrated probability says how likely each answer is right, so that each
prediction counts as a positive by ``p`` and as a negative by ``1 - p``. Probabilities are
calibrated by isotonic regression (Zadrozny and Elkan 2002) on reference predictions with labels.

The assumption, which every estimate is told with: no concept drift, that is, the chance of the
label given the inputs is still what it was in the reference. Drift of the inputs alone is fine.
The interval is that of the rows' luck (DeLong's variance with fractional labels), not of a wrong
assumption.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from airflow_mlops_provider.steps.metrics.influence import UNIT, Estimate, Ranks, mean_of
from airflow_mlops_provider.steps.monitor.settings import finding
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.steps.sources import require_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_mlops_provider.records import Finding, Metric
    from airflow_mlops_provider.steps.monitor.performance import Bar

    Floats = NDArray[np.float64]

ASSUMPTION = "assumes no concept drift"
_EPSILON = 1e-15


def reference_scores(uri: str) -> tuple[Floats, Floats] | None:
    """Return scores and labels that ``EvaluateModelOperator`` kept, each of shape (n,).

    None if they are scores of several classes, which the prediction log does not have.

    Raises:
        DataError: the file is gone or broken, or has no ``score`` and ``target``.
    """
    fs, path = url_to_fs(uri)
    with readable(uri), fs.open(path, "rb") as file:
        names = pq.read_schema(file).names
        if "score_0" in names:
            return None
        require_columns(names, ["score", "target"], uri)
        file.seek(0)
        rows = pq.read_table(file, columns=["score", "target"])
    numbers = [rows[name].cast(pa.float64()).to_numpy() for name in ("score", "target")]
    known = np.isfinite(numbers[0]) & np.isfinite(numbers[1])
    return numbers[0][known], numbers[1][known]


def calibrated(scores: Floats, reference: tuple[Floats, Floats] | None) -> Floats:
    """Return the chance of class 1 for each score, shape (n,); without reference the score."""
    if reference is None:
        return scores
    from sklearn.isotonic import IsotonicRegression  # late: only here, and slow to import

    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(*reference)
    return np.asarray(model.predict(scores), dtype=float)


def estimated_performance(scores: Floats, chance: Floats) -> dict[str, Metric]:
    """Return the expected AUC, Brier score and log loss.

    Args:
        scores: What the model answered, shape (n,).
        chance: Calibrated chances of class 1, shape (n,).

    Returns:
        Nothing without rows, or if the chances leave only one class; the AUC alone if the scores
        are no probabilities.
    """
    positive = float(chance.sum())
    if not 0 < positive < len(chance):
        return {}
    found = {"auc": expected_auc(scores, chance)}
    if scores.min() >= 0 and scores.max() <= 1:
        clipped = np.clip(scores, _EPSILON, 1 - _EPSILON)
        brier = chance * (1 - scores) ** 2 + (1 - chance) * scores**2
        loss = -chance * np.log(clipped) - (1 - chance) * np.log1p(-clipped)
        found |= {"brier": mean_of(brier, UNIT), "log_loss": mean_of(loss)}
    return {name: each.metric() for name, each in found.items()}


def expected_auc(scores: Floats, chance: Floats) -> Estimate:
    """Return the AUC if each row were a positive by its chance, and a negative by the rest."""
    group = Ranks.of(scores).group
    hits = np.bincount(group, weights=chance)
    misses = np.bincount(group, weights=1 - chance)
    n_hits, n_misses = hits.sum(), misses.sum()
    below = (np.cumsum(misses) - misses / 2) / n_misses
    above = 1 - (np.cumsum(hits) - hits / 2) / n_hits
    area = float((below * hits).sum() / n_hits)
    variance = float(
        (hits * (below - area) ** 2).sum() / n_hits**2
        + (misses * (above - area) ** 2).sum() / n_misses**2
    )
    return Estimate(min(area, 1.0), variance, len(scores), UNIT)


def judge_estimate(
    estimated: dict[str, Metric], n: int, n_reference: int | None, bar: Bar, min_rows: int
) -> Finding:
    """Judge the estimated figure as the known one is; uncalibrated it is no more than a warning."""
    metric = estimated.get(bar.metric)
    if metric is None:
        reason = f"Performance was not estimated: {n} predictions do not allow it."
        return finding("estimated_performance", reason, crossed=None, n=n)
    by = (
        "scores taken as calibrated"
        if n_reference is None
        else f"calibrated on {n_reference} reference predictions"
    )
    reason = (
        f"Estimated, not measured: the {bar.metric.upper()} is {metric.value:.3f} on {n} "
        f"predictions (CBPE, {by}; {ASSUMPTION})"
    )
    if bar.limit is None or n < min_rows:
        why = "no baseline was given" if bar.limit is None else f"{min_rows} are needed to judge it"
        told = f"{reason}; {why}."
        return finding("estimated_performance", told, crossed=None, value=metric.value, n=n)
    missed = bar.is_missed(metric)
    told = f"{reason}, {'wholly' if missed else 'not shown to be'} below {bar.limit:.3f}."
    return finding(
        "estimated_performance",
        told,
        crossed=missed and n_reference is not None,
        value=metric.value,
        threshold=bar.limit,
        n=n,
        warning=missed,
    )
