"""A figure for every group of rows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.metrics.confusion import confusion_by_group
from airflow_mlops_provider.steps.metrics.influence import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_mlops_provider.steps.metrics.figures import Figure, Sample


def by_group(
    figure: Figure, sample: Sample, groups: NDArray[np.intp], n_groups: int
) -> list[Estimate | None]:
    """Return the figure of each group, without influences; None where it has nothing to ask.

    Args:
        figure: What to compute.
        sample: All rows.
        groups: shape (n,), the group of each row, 0 to ``n_groups - 1``; rows of -1 count nowhere.
        n_groups: How many there are.
    """
    inside = groups >= 0
    if not inside.all():
        sample, groups = sample.take(np.flatnonzero(inside)), groups[inside]
    if figure.ratio is not None:
        counts = confusion_by_group(
            sample.label, sample.decided, groups, n_groups, sample.n_classes
        )
        return [figure.ratio.of_counts(table) for table in counts]
    if figure.rows is not None:
        return _means(figure.rows(sample), groups, n_groups)
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups, minlength=n_groups))
    return [_estimated(figure, sample.take(rows)) for rows in np.split(order, ends[:-1])]


def _means(
    rows: NDArray[np.float64], groups: NDArray[np.intp], n_groups: int
) -> list[Estimate | None]:
    counts = np.bincount(groups, minlength=n_groups)
    some = np.maximum(counts, 1)
    means = np.bincount(groups, weights=rows, minlength=n_groups) / some
    squares = np.bincount(groups, weights=(rows - means[groups]) ** 2, minlength=n_groups)
    spread = np.where(counts > 1, squares / np.maximum(counts - 1, 1) / some, np.inf)
    return [
        Estimate(float(mean), float(variance), int(n)) if n else None
        for mean, variance, n in zip(means, spread, counts, strict=True)
    ]


def _estimated(figure: Figure, sample: Sample) -> Estimate | None:
    """Return the figure, or None for a group in which it is not defined, of one class, say."""
    if len(sample) == 0:
        return None
    try:
        return figure.estimate(sample)
    except DataError:
        return None
