"""How often an A/B test ends wrongly when it is looked at again and again.

Tests of 40 looks at 500 new units each, alpha 0.05, mismatch alpha 0.01, an even split. Ours are
the looks of `ABTestOperator`; theirs are what is usually done at each look with the same data: a
Welch test of the means at 5 %, a chi-squared test of the split at 1 %, and, where entities are
the units, the Welch test of single requests. Where an effect is to be found, the test gives up at
the number of units that its `power` of 80 % asks for, and theirs is one Welch test of that many
units, which has to be waited for and may not be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from airflow_mlops_provider.steps.experiment.look import Look, judge
from airflow_mlops_provider.steps.experiment.plan import Question
from airflow_mlops_provider.steps.experiment.units import Arm, Arms
from benchmarks import Measure

LOOKS, UNITS, ALPHA, MISMATCH_ALPHA, POWER = 40, 500, 0.05, 0.01, 0.8
Z_TWO_SIDED, Z_MISMATCH = 1.96, 2.5758
BASE_RATE, SPREAD = 0.1, 1.0
Rng = np.random.Generator
Alarms = Iterator[tuple[bool, bool]]
"""Look by look, whether ours and theirs end the test."""


@dataclass(frozen=True)
class Truth:
    """What the candidate really is like, and what has to hold."""

    name: str
    metric: str = "mean"
    effect: float = 0.0
    share: float = 0.5
    requests: int = 1
    """Largest number of requests of an entity."""
    at_most: float | None = None
    at_least: float | None = None


A_A = (
    Truth("A/A of means: ends with a winner or loser", at_most=ALPHA),
    Truth("A/A of rates: ends with a winner or loser", metric="rate", at_most=ALPHA),
    Truth("A/A, clustered entities: ends with a winner or loser", requests=400, at_most=ALPHA),
)
MISMATCHES = (
    Truth("50:50 as asked: called a mismatch", at_most=MISMATCH_ALPHA),
    Truth("52:48 instead of 50:50: called a mismatch", share=0.52, at_least=0.95),
)
EFFECTS = (
    Truth("effect of 0.1 spreads in means: found", effect=0.1, at_least=POWER),
    Truth("rate of 12 % instead of 10 %: found", metric="rate", effect=0.02, at_least=POWER),
)


def run(quick: bool) -> list[Measure]:
    """Simulate both sides on the same data; 200 tests a truth when quick, else 2,000."""
    n = 200 if quick else 2000
    return [
        *(shares(truth, a_a_alarms, n) for truth in A_A),
        *(shares(truth, mismatch_alarms, n) for truth in MISMATCHES),
        *(found(truth, n) for truth in EFFECTS),
    ]


def shares(truth: Truth, simulate: Callable[[Rng, Truth], Alarms], n: int) -> Measure:
    """Return the share of tests in which each side ever raised an alarm."""
    rng = np.random.default_rng(20130101)
    ever = [np.any(list(simulate(rng, truth)), axis=0) for _ in range(n)]
    ours, theirs = np.mean(ever, axis=0)
    return measure(truth, float(ours), float(theirs), n)


def found(truth: Truth, n: int) -> Measure:
    """Return the share of tests that find a true effect, and how long they take."""
    rng = np.random.default_rng(20130101)
    ends = [effect_found(rng, truth) for _ in range(n)]
    ours, theirs = np.mean(ends, axis=0)
    return measure(truth, float(ours), float(theirs), n)


def measure(truth: Truth, ours: float, theirs: float, n: int) -> Measure:
    """Return a measure with the bound of the truth as its goal."""
    goals = []
    if truth.at_most is not None:
        goals.append((f"at most {truth.at_most:.0%}", ours <= truth.at_most))
    if truth.at_least is not None:
        goals.append((f"at least {truth.at_least:.0%}", ours >= truth.at_least))
    (goal, holds), *_ = goals
    return Measure(
        name=truth.name, ours=ours, theirs=theirs, unit="share", goal=goal, holds=holds, n=n
    )


def a_a_alarms(rng: Rng, truth: Truth) -> Alarms:
    """Yield whether ours and the repeated Welch test (of requests) call arms different."""
    ask = Question(metric=truth.metric, min_effect=0.05, power=POWER)  # type: ignore[arg-type]
    sides = [drawn(rng, truth) for _ in range(2)]
    for look in range(1, LOOKS + 1):
        arms = [side.until(look) for side in sides]
        finding = looked(ask, arms).finding
        yield finding in ("better", "worse"), z_score(*(side.naive(look) for side in sides))


def mismatch_alarms(rng: Rng, truth: Truth) -> Alarms:
    """Yield whether ours and the repeated chi-squared test call the split a mismatch."""
    ask = Question(max_units=10**9, mismatch_alpha=MISMATCH_ALPHA, missing="zero")
    assigned = rng.binomial(UNITS, truth.share, LOOKS).cumsum()
    for look, first in enumerate(assigned, start=1):
        total = look * UNITS
        arms = [Arm(exposed=int(n), mature=int(n)) for n in (first, total - first)]
        score = abs(first - total / 2) / math.sqrt(total / 4)
        yield looked(ask, arms).finding == "invalid", bool(score > Z_MISMATCH)


def effect_found(rng: Rng, truth: Truth) -> tuple[bool, bool]:
    """Return whether ours finds an effect before it gives up, and whether one look then does."""
    ask = Question(metric=truth.metric, min_effect=truth.effect, power=POWER)  # type: ignore[arg-type]
    values, findings = [np.empty(0), np.empty(0)], ["undecided"]
    while True:
        new = [outcomes(rng, truth, effect, UNITS // 2) for effect in (0.0, truth.effect)]
        values = [np.concatenate(pair) for pair in zip(values, new, strict=True)]
        arms = [arm_of(each) for each in values]
        look = looked(ask, arms)
        findings.append(look.finding)
        if look.needed_units and sum(arm.units for arm in arms) >= look.needed_units:
            ended = next(finding for finding in findings if finding != "undecided")
            return ended == "better", z_score(*arms)


@dataclass(frozen=True)
class Entities:
    """One arm: requests and the sum of their outcomes, by look and entity, all so far."""

    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    """Sum of the squares of all outcomes, by look."""

    @classmethod
    def of(cls, owner: np.ndarray, look: np.ndarray, value: np.ndarray) -> Entities:
        """Add up requests of ``owner`` at ``look`` (from 1 on)."""
        shape = (LOOKS, int(owner.max()) + 1)
        place = (look - 1) * shape[1] + owner
        counts, sums = (
            np.bincount(place, weights, shape[0] * shape[1]).reshape(shape).cumsum(axis=0)
            for weights in (None, value)
        )
        return cls(counts, sums, np.bincount(look - 1, value**2, LOOKS).cumsum())

    def until(self, look: int) -> Arm:
        """Return the arm with one value an entity."""
        counts, sums = self.counts[look - 1], self.sums[look - 1]
        known = counts > 0
        return arm_of(sums[known] / counts[known])

    def naive(self, look: int) -> Arm:
        """Return the arm as if each request were a unit."""
        n, total = int(self.counts[look - 1].sum()), float(self.sums[look - 1].sum())
        variance = float(self.squares[look - 1] - total**2 / n) / (n - 1)
        return Arm(exposed=n, mature=n, units=n, mean=total / n, variance=variance)


@dataclass(frozen=True)
class Requests:
    """One arm whose requests are units."""

    values: np.ndarray

    def until(self, look: int) -> Arm:
        """Return the arm."""
        return arm_of(self.values[: look * UNITS // 2])

    naive = until


def drawn(rng: Rng, truth: Truth) -> Entities | Requests:
    """Draw an arm; entities differ in their level and in how often they come."""
    if truth.requests == 1:
        return Requests(outcomes(rng, truth, 0.0, LOOKS * UNITS // 2))
    n = LOOKS * UNITS // 20
    met = np.repeat(np.arange(1, LOOKS + 1), n // LOOKS)
    often = rng.geometric(1 / 20, n) * rng.choice([1, 10], n, p=[0.9, 0.1])
    owner = np.repeat(np.arange(n), np.minimum(often, truth.requests))
    level = rng.normal(0.0, SPREAD, n)
    look = np.minimum(met[owner] + rng.integers(0, LOOKS, len(owner)), LOOKS)
    return Entities.of(owner, look, level[owner] + rng.normal(0, SPREAD, len(owner)))


def outcomes(rng: Rng, truth: Truth, effect: float, n: int) -> np.ndarray:
    """Draw the outcomes of ``n`` units."""
    if truth.metric == "rate":
        return rng.binomial(1, BASE_RATE + effect, n).astype(float)
    return rng.normal(effect, SPREAD, n)


def arm_of(values: np.ndarray) -> Arm:
    """Return units with these outcomes as an arm."""
    n = len(values)
    return Arm(
        exposed=n,
        mature=n,
        units=n,
        mean=float(values.mean()),
        variance=float(values.var(ddof=1)),
    )


def looked(question: Question, arms: list[Arm]) -> Look:
    """Look at champion and candidate."""
    known = Arms(arms=dict(zip(("champion", "candidate"), arms, strict=True)))
    return judge(question, known, "champion", "candidate", elapsed=0.0)


def z_score(champion: Arm, candidate: Arm) -> bool:
    """Return whether Welch's test calls two arms different at 5 %."""
    spread = champion.variance / champion.units + candidate.variance / candidate.units
    return bool(abs(candidate.mean - champion.mean) > Z_TWO_SIDED * math.sqrt(spread))
