"""How differently live decisions treat the groups of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from airflow_mlops_provider.steps.metrics.figures import Sample
from airflow_mlops_provider.steps.monitor.settings import finding

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlops_provider.records import Fairness, Finding
    from airflow_mlops_provider.steps.monitor.performance import Labelled

_LABELLED_ONLY = ("recall", "false_positive_rate")


def live_fairness(
    labelled: Labelled,
    scored: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    threshold: float,
    min_rows: int,
) -> list[Fairness]:
    """Compare groups on labelled predictions, or, of too few, by what was decided alone.

    Args:
        labelled: What the labels came for.
        scored: ``score`` and the columns of all answered predictions.
        columns: What is compared, as the user calls it, to the column of the log.
        threshold: The score from which on class 1 is decided.
        min_rows: Predictions that a group needs.
    """
    # late: that package imports MLflow, which takes longer than the rest of a report
    from airflow_mlops_provider.steps.evaluate.fairness import fairness_of

    if len(labelled) >= min_rows:
        sample = replace(labelled.sample, threshold=threshold)
        found = fairness_of(labelled.groups, sample, [*columns.values()], min_rows)
    else:
        scores = scored["score"].to_numpy(float)
        sample = Sample(np.zeros(len(scores)), scores, threshold)
        decided = fairness_of(scored, sample, [*columns.values()], min_rows)
        found = [_by_decision(each) for each in decided]
    names = {column: name for name, column in columns.items()}
    return [replace(each, column=names[each.column]) for each in found]


def judge_fairness(
    found: Sequence[Fairness], thresholds: Mapping[str, float | None], n: int
) -> Finding:
    """Judge the ratio of selection rates, and the difference of error rates."""
    if not found:
        reason = "Fairness is unknown: fewer than two groups have enough predictions."
        return finding("fairness", reason, crossed=None, n=n)
    least, most = thresholds["parity_ratio"], thresholds["odds_difference"]
    worst = min(found, key=lambda each: each.demographic_parity_ratio)
    ratio = worst.demographic_parity_ratio
    if least is not None and ratio < least:
        reason = (
            f"Of the groups of {worst.column!r}, one is selected {ratio:.2f} times as often as "
            f"another, and {least:.2f} is the least allowed."
        )
        return finding("fairness", reason, crossed=True, value=ratio, threshold=least, n=n)
    odds = [each for each in found if each.equalized_odds_difference is not None]
    unequal = max(odds, key=lambda each: each.equalized_odds_difference or 0, default=None)
    if unequal is not None and most is not None:
        difference = unequal.equalized_odds_difference or 0.0
        if difference > most:
            reason = (
                f"Recall or false positive rate differ by {difference:.2f} between groups of "
                f"{unequal.column!r}, and {most:.2f} is the most allowed."
            )
            return finding("fairness", reason, crossed=True, value=difference, threshold=most, n=n)
    reason = f"The groups of {', '.join(each.column for each in found)} are treated alike enough."
    return finding("fairness", reason, crossed=False, value=ratio, threshold=least, n=n)


def _by_decision(fairness: Fairness) -> Fairness:
    """Leave out what only labels tell."""
    groups = {
        name: {key: value for key, value in group.items() if key not in _LABELLED_ONLY}
        for name, group in fairness.groups.items()
    }
    return replace(fairness, groups=groups, equalized_odds_difference=None)
