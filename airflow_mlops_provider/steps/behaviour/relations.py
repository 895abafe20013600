"""What has to hold between two answers: named relations, or a function of both.

A relation gives the slack of each row, shape (n,): below 0, or NaN, the row breaks it, and the
further below the worse. An answer that is not finite breaks every relation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.behaviour.asking import Answers
from airflow_mlops_provider.steps.importing import import_object

Slack = NDArray[np.float64]
Relation = Callable[[Answers, Answers], Slack]


def relation(declared: Any, *, tolerance: float = 0.0, threshold: float = 0.5) -> Relation:
    """Return what was declared as a function that gives the slack.

    Args:
        declared: ``same``, ``not_lower``, ``not_higher``, ``lower``, ``higher`` (the answer after
            against that before), ``same_decision``, ``answered``; a function of both answers,
            shape (n,) each, that tells where the relation holds, or the import path of one.
        tolerance: By how much answers may miss ``same``, ``not_lower`` and ``not_higher``, and
            have to exceed ``lower`` and ``higher``.
        threshold: Of the decision.

    Raises:
        ParameterError: there is no such relation.
    """
    if callable(declared):
        return _of_function(declared)
    if declared == "same_decision":
        return lambda before, after: _where(
            _slack(before.decision(threshold) == after.decision(threshold)), before, after
        )
    if declared == "answered":
        return between(None, None)
    if isinstance(declared, str) and declared in NAMED:
        slack = NAMED[declared]
        return lambda before, after: _where(
            slack(before.score, after.score, tolerance), before, after
        )
    if isinstance(declared, str) and "." in declared:
        return _of_function(import_object(declared, "relation", "a behavioural test"))
    raise ParameterError.of(
        "relation",
        "a behavioural test",
        f"one of {sorted([*NAMED, 'answered', 'same_decision'])}, a function of both answers, or "
        "its import path",
        declared,
    )


def between(low: Slack | float | None, high: Slack | float | None) -> Relation:
    """Hold the answer after between two bounds, whatever it was before; None is no bound."""

    def slack(_: Answers, after: Answers) -> Slack:
        distances = [np.where(np.isfinite(after.score), np.inf, np.nan)]
        if low is not None:
            distances.append(after.score - low)
        if high is not None:
            distances.append(high - after.score)
        return _least(distances)

    return slack


def both(*relations: Relation) -> Relation:
    """Hold every one of several relations."""
    return lambda before, after: _least([each(before, after) for each in relations])


def broken(slack: Slack) -> NDArray[np.bool_]:
    """Tell which rows break a relation."""
    return ~(slack >= 0)


def _lower(before: Slack, after: Slack, tolerance: float) -> Slack:
    # just below 0 where the answers are exactly `tolerance` apart: it has to be more
    return np.nextafter(before - after - tolerance, -np.inf)


NAMED: dict[str, Callable[[Slack, Slack, float], Slack]] = {
    "same": lambda before, after, tolerance: tolerance - np.abs(after - before),
    "not_lower": lambda before, after, tolerance: after - before + tolerance,
    "not_higher": lambda before, after, tolerance: before - after + tolerance,
    "lower": _lower,
    "higher": lambda before, after, tolerance: _lower(after, before, tolerance),
}
"""Name to the slack of answers before and after, and a tolerance."""


def _of_function(function: Callable[..., Any]) -> Relation:
    def slack(before: Answers, after: Answers) -> Slack:
        holds = np.asarray(function(before.score.copy(), after.score.copy()))
        if holds.shape != before.score.shape or holds.dtype != bool:
            raise DataError(
                f"Expected True or False for each of {len(before.score)} rows from the relation, "
                f"got {holds.dtype} of shape {holds.shape}. Return a mask of where it holds."
            )
        return _where(_slack(holds), before, after)

    return slack


def _least(slacks: list[Slack]) -> Slack:
    """Return the least of each row; NaN if one is."""
    least: Slack = np.minimum.reduce(slacks)
    return least


def _slack(holds: NDArray[np.bool_]) -> Slack:
    return np.where(holds, 0.0, -1.0)


def _where(slack: Slack, before: Answers, after: Answers) -> Slack:
    answered = np.isfinite(before.score) & np.isfinite(after.score)
    return np.where(answered, slack, np.nan)
