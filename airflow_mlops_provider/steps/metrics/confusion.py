"""Figures that are ratios of sums over the confusion matrix.

Precision, for example, is the sum of one cell over the sum of a column. So counts are all that is
needed: overall, in every slice at once, and for the variance of each (the delta method).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.metrics.influence import REAL, UNIT, Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """``sum(counts * part) / sum(counts * whole)``; both have the matrix's shape (k, k).

    Rows are the truth, columns what was decided.
    """

    part: Floats
    whole: Floats
    bounds: tuple[float, float] = UNIT

    def of_counts(self, counts: NDArray[np.int64]) -> Estimate | None:
        """Return the figure of one confusion matrix, or None if it has no rows to ask."""
        n, whole = int(counts.sum()), float((counts * self.whole).sum())
        if whole == 0:
            return None
        value = float((counts * self.part).sum()) / whole
        squares = float((counts * (self.part - value * self.whole) ** 2).sum())
        variance = squares / whole**2 * n / (n - 1) if n > 1 else np.inf
        return Estimate(value, variance, self._asked(counts), self.bounds)

    def influence(self, value: float, truth: NDArray[np.intp], decided: NDArray[np.intp]) -> Floats:
        """Return each row's influence on ``value``, shape (n,)."""
        influence = (self.part - value * self.whole)[truth, decided]
        return np.asarray(influence / self.whole[truth, decided].mean())

    def _asked(self, counts: NDArray[np.int64]) -> int:
        return int(counts[self.whole != 0].sum())


def confusion(
    truth: NDArray[np.intp], decided: NDArray[np.intp], n_classes: int
) -> NDArray[np.int64]:
    """Return the matrix of counts, shape (k, k); rows are the truth."""
    cells = np.bincount(truth * n_classes + decided, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)


def confusion_by_group(
    truth: NDArray[np.intp],
    decided: NDArray[np.intp],
    groups: NDArray[np.intp],
    n_groups: int,
    n_classes: int = 2,
) -> NDArray[np.int64]:
    """Return a matrix for each group, shape (groups, k, k), in one pass over the rows."""
    cell = (groups * n_classes + truth) * n_classes + decided
    counts = np.bincount(cell, minlength=n_groups * n_classes**2)
    return counts.reshape(n_groups, n_classes, n_classes)


_TN, _FP, _FN, _TP = np.eye(4).reshape(4, 2, 2)
BINARY = {
    "accuracy": Ratio(_TN + _TP, np.ones((2, 2))),
    "precision": Ratio(_TP, _TP + _FP),
    "recall": Ratio(_TP, _TP + _FN),
    "specificity": Ratio(_TN, _TN + _FP),
    "false_positive_rate": Ratio(_FP, _TN + _FP),
    "f1": Ratio(2 * _TP, 2 * _TP + _FP + _FN),
    "selection_rate": Ratio(_TP + _FP, np.ones((2, 2))),
}
"""Figures of a decision between two classes; the second is the positive one."""


def accuracy(n_classes: int) -> Ratio:
    """Return the share of right decisions among ``n_classes``."""
    return Ratio(np.eye(n_classes), np.ones((n_classes, n_classes)))


def recall_of(label: int, n_classes: int) -> Ratio:
    """Return the share of a class that was decided to be it."""
    whole = np.zeros((n_classes, n_classes))
    whole[label, :] = 1
    return Ratio(np.eye(n_classes) * whole, whole)


def f1_of(label: int, n_classes: int) -> Ratio:
    """Return the harmonic mean of a class's precision and recall."""
    whole = np.zeros((n_classes, n_classes))
    whole[label, :] += 1
    whole[:, label] += 1
    return Ratio(whole * np.eye(n_classes), whole)


def cost(costs: Sequence[Sequence[float]], n_classes: int) -> Ratio:
    """Return the mean cost of a row; ``costs[i][j]`` is that of deciding j when i is true.

    Raises:
        ParameterError: the table is not one of ``n_classes`` by ``n_classes`` numbers.
    """
    table = np.asarray(costs, dtype=float)
    if table.shape != (n_classes, n_classes) or not np.isfinite(table).all():
        constraint = f"a table of {n_classes} by {n_classes} finite numbers"
        raise ParameterError.of("costs", "evaluate", constraint, costs)
    return Ratio(table, np.ones_like(table), REAL)
