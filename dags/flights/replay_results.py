"""What a replay found: figures of each month and of the whole, with their uncertainty.

Flights of one day share the day's weather, so intervals over several months take days, and not
flights, as independent: the influences of the flights of a day are summed (Liang and Zeger 1986).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from airflow_mlops_provider.steps.evaluate.judge import calibration_error
from airflow_mlops_provider.steps.metrics.figures import BINARY, Sample
from airflow_mlops_provider.steps.metrics.influence import Estimate, estimate

if TYPE_CHECKING:
    from airflow_mlops_provider.records import Metric
    from flights.replay_data import Landed
    from flights.replay_policies import MonthServed

FIGURES = ("auc", "brier", "log_loss")


@dataclass(frozen=True)
class MonthFigures:
    """How good the answers of one month were."""

    n: int
    late_rate: float
    predicted_rate: float
    """Mean score."""
    auc: Metric
    brier: Metric
    calibration_error: float


@dataclass(frozen=True)
class Course:
    """What a policy cost and brought over all months."""

    policy: str
    months: Sequence[MonthServed]
    figures: Sequence[MonthFigures]
    n_outcomes: dict[str, int]
    """Challengers by what the gate said."""
    rows: int
    """Flights that were learned from, over all trainings."""
    seconds: float
    """Of fitting; the only figure here that another run does not repeat."""
    pooled: dict[str, Metric]
    gains: dict[str, Metric]
    """How much better than the first policy on the same flights; positive is better."""
    calibration_error: float
    """Mean over the months, by flights."""

    @property
    def trainings(self) -> int:
        """How many challengers were trained."""
        return sum(self.n_outcomes.values())


@dataclass(frozen=True)
class Replay:
    """A year: what the first champion learned from, and what each policy made of the rest."""

    learned: Sequence[Landed]
    courses: Sequence[Course]
    """The first is what the others are compared with."""


def courses(served: dict[str, list[MonthServed]]) -> list[Course]:
    """Return what each policy brought; the first is what the others are compared with."""
    first = next(iter(served.values()))
    return [_course(policy, months, first) for policy, months in served.items()]


def month_figures(sample: Sample) -> MonthFigures:
    """Return the figures of the answers of a month."""
    return MonthFigures(
        n=len(sample),
        late_rate=float(sample.truth.mean()),
        predicted_rate=float(sample.score.mean()),
        auc=_estimate("auc", sample).metric(),
        brier=_estimate("brier", sample).metric(),
        calibration_error=calibration_error(sample),
    )


def by_day(found: Estimate, days: np.ndarray) -> Estimate:
    """Return an estimate whose variance takes days, shape (n,), as independent, and not rows."""
    assert found.influence is not None, "every figure here has it"
    codes, distinct = pd.factorize(days)
    sums = np.bincount(codes, weights=found.influence)
    return estimate(found.value, sums * len(distinct) / len(days), found.n, found.bounds)


def _course(policy: str, months: list[MonthServed], first: list[MonthServed]) -> Course:
    figures = [month_figures(each.live.sample) for each in months]
    attempts = [each.attempt for each in months if each.attempt]
    outcomes = [attempt.verdict.outcome for attempt in attempts]
    pooled, gains = _pooled(months, first)
    return Course(
        policy=policy,
        months=months,
        figures=figures,
        n_outcomes={outcome: outcomes.count(outcome) for outcome in sorted({*outcomes})},
        rows=sum(int(each.challenger.model.metrics["train_rows"]) for each in attempts),
        seconds=sum(each.challenger.fit_seconds for each in attempts),
        pooled=pooled,
        gains=gains,
        calibration_error=float(
            np.average(
                [each.calibration_error for each in figures],
                weights=[each.n for each in figures],
            )
        ),
    )


def _pooled(
    months: list[MonthServed], first: list[MonthServed]
) -> tuple[dict[str, Metric], dict[str, Metric]]:
    ours, theirs = _together(months), _together(first)
    days = np.concatenate([each.live.days for each in months])
    pooled, gains = {}, {}
    for name in FIGURES:
        mine, other = _estimate(name, ours), _estimate(name, theirs)
        better, worse = (mine, other) if BINARY[name].greater_is_better else (other, mine)
        pooled[name] = by_day(mine, days).metric()
        gains[name] = by_day(better.minus(worse), days).metric()
    return pooled, gains


def _estimate(name: str, sample: Sample) -> Estimate:
    found = BINARY[name].estimate(sample)
    assert found is not None, "none of FIGURES is ever undefined"
    return found


def _together(months: list[MonthServed]) -> Sample:
    samples = [each.live.sample for each in months]
    return Sample(
        np.concatenate([each.truth for each in samples]),
        np.concatenate([each.score for each in samples]),
    )
