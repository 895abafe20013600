"""One look at an A/B test: what the figures say now, and whether that ends the test.

The mismatch check comes first. If the arms did not get the units they should have got, who is in
which arm depends on something, and no comparison of them means anything (Fabijan et al. 2019,
"Diagnosing sample ratio mismatch in online controlled experiments").
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_mlops_provider.steps.experiment.comparison import (
    EVENT_CONCENTRATION,
    MISMATCH_CONCENTRATION,
    decisive_variance,
    half_width,
    log_e_value,
)

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.experiment.plan import Question
    from airflow_mlops_provider.steps.experiment.units import Arm, Arms

Finding = Literal["undecided", "better", "worse", "inconclusive", "invalid"]
_LARGEST_LOG = 25.0
"""E-values are reported up to about 7e10: beyond it nobody needs the digits."""
_CHECKS = 2
"""Exposures and outcomes share ``mismatch_alpha``."""


class Interval(NamedTuple):
    """Candidate minus champion, and where that lies at all looks at once."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found, as JSON numbers."""

    finding: Finding
    reason: str
    champion: Arm
    candidate: Arm
    difference: float | None
    """Candidate minus champion; None while an arm has too few units."""
    low: float | None
    high: float | None
    """Where the difference lies at all looks at once, save with chance ``alpha``."""
    e_value: float | None
    """Evidence against equal rates; only for ``metric="rate"``."""
    mismatch_e_value: float
    outcome_mismatch_e_value: float
    needed_units: int | None
    """Units at which the test gives up; None while it is not known."""
    coverage: float
    crossovers: int
    without_key: int
    unmatched: int

    def summary(self) -> dict[str, Any]:
        """Return the figures for the rollout's document, flat and rounded."""
        figures = {
            f"{side}_{name}": value
            for side in ("champion", "candidate")
            for name, value in asdict(getattr(self, side)).items()
        }
        rest = asdict(self)
        for name in ("champion", "candidate", "reason"):
            del rest[name]
        return {name: _rounded(value) for name, value in {**figures, **rest}.items()}


def judge(question: Question, arms: Arms, champion: str, candidate: str, elapsed: float) -> Look:
    """Judge the arms as they stand.

    Args:
        question: What is asked.
        arms: The figures of all units so far.
        champion: Name of the champion's deployment.
        candidate: Name of the candidate's.
        elapsed: Seconds since the test began.
    """
    old, new = arms.arms[champion], arms.arms[candidate]
    mismatches = [_mismatch(question, old.exposed, new.exposed)]
    labelled = question.missing == "ignore"
    mismatches.append(_mismatch(question, old.units, new.units) if labelled else 0.0)
    needed = _needed_units(question, old, new)
    interval = _interval(question, old, new, needed)
    log_e = _event_evidence(question, old, new)
    side = _side(question, interval, log_e)
    finding: Finding
    if broken := _broken_assignment(question, old, new, mismatches):
        finding, reason = "invalid", broken
    elif side:
        finding = "better" if side > 0 else "worse"
        reason = (
            f"{new.mean:.4g} on {new.units} units against {old.mean:.4g} on {old.units}, "
            f"coverage {arms.coverage:.0%}"
        )
    else:
        finding, reason = _given_up(question, old, new, needed, elapsed)
    difference, low, high = interval or (None, None, None)
    return Look(
        finding=finding,
        reason=reason,
        champion=old,
        candidate=new,
        difference=difference,
        low=low,
        high=high,
        e_value=None if log_e is None else _exp(log_e),
        mismatch_e_value=_exp(mismatches[0]),
        outcome_mismatch_e_value=_exp(mismatches[1]),
        needed_units=needed,
        coverage=arms.coverage,
        crossovers=arms.crossovers,
        without_key=arms.without_key,
        unmatched=arms.unmatched,
    )


def _mismatch(question: Question, champion: int, candidate: int) -> float:
    share = question.split / 100
    return log_e_value((champion, candidate), (1 - share, share), MISMATCH_CONCENTRATION)


def _event_evidence(question: Question, old: Arm, new: Arm) -> float | None:
    if question.metric != "rate":
        return None
    share = question.split / 100
    return log_e_value((old.events, new.events), (1 - share, share), EVENT_CONCENTRATION)


def _spread(question: Question, old: Arm, new: Arm) -> float:
    """Return the pooled variance of a unit, without looking at which arm does better."""
    n = old.units + new.units
    if question.metric == "rate":  # of events alone the test sees the rate, not its complement
        return (old.events + new.events) / n if n else 0.0
    return (
        (old.variance * (old.units - 1) + new.variance * (new.units - 1)) / (n - 2)
        if min(old.units, new.units) > 1
        else 0.0
    )


def _needed_units(question: Question, old: Arm, new: Arm) -> int | None:
    if question.max_units is not None:
        return question.max_units
    assert question.min_effect is not None  # one of the two is given
    spread = _spread(question, old, new)
    if not spread or min(old.units, new.units) < question.min_units:
        return None
    share = question.split / 100
    variance = decisive_variance(question.min_effect, question.alpha, question.power)
    return max(math.ceil(spread / (share * (1 - share) * variance)), 2 * question.min_units)


def _interval(question: Question, old: Arm, new: Arm, needed: int | None) -> Interval | None:
    if min(old.units, new.units) < question.min_units:
        return None
    difference = new.mean - old.mean
    variance = old.variance / old.units + new.variance / new.units
    if variance == 0:
        return Interval(difference, difference, difference)
    if question.min_effect is not None:
        tuned = decisive_variance(question.min_effect, question.alpha, question.power)
    else:
        assert needed is not None  # max_units is given
        tuned = variance * (old.units + new.units) / needed
    half = half_width(variance, question.alpha, tuned)
    return Interval(difference, difference - half, difference + half)


def _side(question: Question, interval: Interval | None, log_e: float | None) -> int:
    """Return 1 if the candidate is better, -1 if it is not, and 0 while that is open."""
    if interval is None:
        return 0
    sign = 1 if question.direction == "increase" else -1
    if log_e is not None:
        decided = log_e > -math.log(question.alpha)
        return sign * (1 if interval.difference > 0 else -1) if decided else 0
    low, high = sorted((sign * interval.low, sign * interval.high))
    return int(low > question.margin) - int(high < question.margin)


def _broken_assignment(
    question: Question, old: Arm, new: Arm, mismatches: list[float]
) -> str | None:
    threshold = math.log(_CHECKS / question.mismatch_alpha)
    wanted = f"{100 - question.split}:{question.split}"
    if mismatches[0] > threshold:
        return (
            f"sample-ratio mismatch: {old.exposed} units met the champion and {new.exposed} the "
            f"candidate, {wanted} was asked for (e-value {_exp(mismatches[0]):.3g} over "
            f"{math.exp(threshold):.3g})"
        )
    if mismatches[1] > threshold:
        return (
            f"outcomes went missing unevenly: {old.units} of the champion and {new.units} of the "
            f"candidate have one, {wanted} was asked for (e-value {_exp(mismatches[1]):.3g} over "
            f"{math.exp(threshold):.3g})"
        )
    return None


def _given_up(
    question: Question, old: Arm, new: Arm, needed: int | None, elapsed: float
) -> tuple[Finding, str]:
    units = old.units + new.units
    if needed is not None and units >= needed:
        return "inconclusive", f"no difference was found on {units} units, {needed} were needed"
    if elapsed >= question.max_seconds:
        return "inconclusive", (
            f"no difference was found in {elapsed:.0f} s, on {units} units of "
            f"{needed or 'an unknown number'} needed"
        )
    return "undecided", ""


def _exp(log: float) -> float:
    return math.exp(min(log, _LARGEST_LOG))


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
