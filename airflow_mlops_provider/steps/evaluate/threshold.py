"""Choose the probability from which class 1 is decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from airflow_mlops_provider.exceptions import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_FORMS = "a number in [0, 1], 'f1', 'cost' (with `costs`) or {'recall': share}"


def choose_threshold(
    rule: float | str | Mapping[str, float],
    positive: NDArray[np.bool_],
    score: Floats,
    costs: Sequence[Sequence[float]] | None = None,
) -> float:
    """Return the threshold that ``rule`` asks for on these rows.

    A threshold chosen on the rows it is judged by flatters the decisions a little; give a number
    that was chosen before, where that matters.

    Args:
        rule: A number; ``"f1"`` for the best F1; ``"cost"`` for the lowest mean cost; or
            ``{"recall": share}`` for the highest threshold that keeps this recall.
        positive: shape (n,).
        score: shape (n,), probabilities of class 1.
        costs: ``costs[i][j]``, cost of deciding class j when i is true.
    """
    if isinstance(rule, Mapping):
        return _keeping_recall(rule, positive, score)
    if rule == "f1":
        return _best(_f1, positive, score)
    if rule == "cost" and costs is not None:
        table = np.asarray(costs, dtype=float)
        return _best(lambda *counts: -_cost(table, *counts), positive, score)
    try:
        number = float(rule)
    except ValueError as error:
        raise ParameterError.of("threshold", "evaluate", _FORMS, rule) from error
    if not 0 <= number <= 1:
        raise ParameterError.of("threshold", "evaluate", _FORMS, rule)
    return number


def _keeping_recall(rule: Mapping[str, float], positive: NDArray[np.bool_], score: Floats) -> float:
    share = rule.get("recall")
    if share is None or not 0 < share <= 1 or not positive.any():
        raise ParameterError.of("threshold", "evaluate", _FORMS, dict(rule))
    return float(np.quantile(score[positive], 1 - share, method="lower"))


def _best(value: Callable[..., Floats], positive: NDArray[np.bool_], score: Floats) -> float:
    """Return the score with the best ``value(tp, fp, fn, tn)`` when all from it on are positive."""
    levels, index = np.unique(score, return_inverse=True)
    hits = np.bincount(index, weights=positive)
    rows = np.bincount(index)
    tp = np.cumsum(hits[::-1])[::-1]
    fp = np.cumsum((rows - hits)[::-1])[::-1]
    fn, tn = positive.sum() - tp, (~positive).sum() - fp
    return float(levels[int(np.argmax(value(tp, fp, fn, tn)))])


def _f1(tp: Floats, fp: Floats, fn: Floats, _: Floats) -> Floats:
    return np.asarray(2 * tp / (2 * tp + fp + fn))


def _cost(table: Floats, tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return np.asarray(table[0, 0] * tn + table[0, 1] * fp + table[1, 0] * fn + table[1, 1] * tp)
