"""How often a rollout accuses a sound candidate, and how soon it finds a bad one.

Rollouts of 40 looks at 600 requests each, with weights of 5, 25, 50 and 50 %, an error rate of
1 % and alpha 0.05. Ours are the sequential tests of the rollout; theirs are the fixed-sample
tests that are usually repeated at each look: a pooled z-test of the error rates, and Welch's
test of the mean logarithm of latency. Both sides ask whether the candidate is worse at all. Rows
"as shipped" ask ours whether it is worse by more than the default margin of 20 %; the repeated
test knows no margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from airflow_mlops_provider.steps.rollout.sequential import MeanTest, RateTest, Sample
from benchmarks import Measure

LOOKS, REQUESTS, ALPHA = 40, 600, 0.05
WEIGHTS = np.repeat([0.05, 0.25, 0.5, 0.5], LOOKS // 4)
BASE_RATE, Z_CRITICAL, LATENCY_SPREAD = 0.01, 1.6449, 0.5
Rng = np.random.Generator


@dataclass(frozen=True)
class Truth:
    """What the candidate really is like."""

    name: str
    factor: float
    sound: bool
    drifts: bool = False
    """Whether the level that both share moves over the rollout."""
    margin: float = 0.0
    goal: float = 0.95
    """Share of rollouts that have to be rolled back if the candidate is bad."""


RATES = (
    Truth("no difference in errors", 1.0, sound=True),
    Truth("no difference, rate drifting 0-2x", 1.0, sound=True, drifts=True),
    Truth("2x errors", 2.0, sound=False),
    Truth("5x errors", 5.0, sound=False),
    Truth("as shipped, 1.2x errors", 1.2, sound=True, margin=0.2),
    Truth("as shipped, 2x errors", 2.0, sound=False, margin=0.2, goal=0.8),
    Truth("as shipped, 5x errors", 5.0, sound=False, margin=0.2),
)
LATENCIES = (
    Truth("no difference in latency", 1.0, sound=True),
    Truth("no difference, latency drifting", 1.0, sound=True, drifts=True),
    Truth("+10 % latency", 1.1, sound=False),
)


def run(quick: bool) -> list[Measure]:
    """Simulate both sides on the same data; 300 rollouts a truth when quick, else 2,000."""
    n = 300 if quick else 2000
    measures = []
    for truths, simulate in ((RATES, rate_alarms), (LATENCIES, latency_alarms)):
        for truth in truths:
            measures += compared(truth, simulate, n)
    return measures


def compared(
    truth: Truth, simulate: Callable[[Rng, Truth], Iterator[tuple[bool, bool]]], n: int
) -> list[Measure]:
    """Return the share of rollouts rolled back and, for a bad candidate, the look it took."""
    rng = np.random.default_rng(20130101)
    alarms = np.array([first_alarms(simulate(rng, truth)) for _ in range(n)])
    ours, theirs = (alarms <= LOOKS).mean(axis=0)
    bound, bad = (ALPHA, "at most") if truth.sound else (truth.goal, "at least")
    rolled_back = Measure(
        name=f"{truth.name}: rolled back",
        ours=float(ours),
        theirs=float(theirs),
        unit="share",
        goal=f"{bad} {bound:.0%}",
        holds=bool(ours <= bound if truth.sound else ours >= bound),
        n=n,
    )
    if truth.sound:
        return [rolled_back]
    looks = np.minimum(alarms, LOOKS).mean(axis=0)
    most = LOOKS * 5 / 8
    found = Measure(
        name=f"{truth.name}: looks until found",
        ours=float(looks[0]),
        theirs=float(looks[1]),
        unit="looks",
        goal=f"at most {most:.0f}",
        holds=bool(looks[0] <= most),
        n=n,
    )
    return [rolled_back, found]


def first_alarms(looks: Iterator[tuple[bool, bool]]) -> tuple[int, int]:
    """Return at which look each side raised its first alarm; 41 for never."""
    first = [LOOKS + 1, LOOKS + 1]
    for number, alarms in enumerate(looks, start=1):
        first = [
            min(old, number) if alarm else old for old, alarm in zip(first, alarms, strict=True)
        ]
    return first[0], first[1]


def rate_alarms(rng: Rng, truth: Truth) -> Iterator[tuple[bool, bool]]:
    """Yield, look by look, whether our test and the repeated z-test accuse the candidate."""
    ours = RateTest(margin=truth.margin)
    requests, errors = np.zeros(2), np.zeros(2)
    for look, weight in enumerate(WEIGHTS):
        rate = BASE_RATE * (1 + math.sin(look / 4) if truth.drifts else 1)
        candidate = rng.binomial(REQUESTS, weight)
        n = np.array([REQUESTS - candidate, candidate])
        k = rng.binomial(n, [rate, rate * truth.factor])
        ours = ours.updated(
            candidate_events=int(k[1]),
            champion_events=int(k[0]),
            share=candidate / REQUESTS,
        )
        requests, errors = requests + n, errors + k
        yield ours.log_e_value > -math.log(ALPHA), z_score(requests, errors) > Z_CRITICAL


def z_score(requests: np.ndarray, errors: np.ndarray) -> float:
    """Return the pooled two-sample z statistic of candidate against champion."""
    pooled = errors.sum() / requests.sum()
    variance = pooled * (1 - pooled) * (1 / requests).sum()
    rates = errors / requests
    return float((rates[1] - rates[0]) / math.sqrt(variance)) if variance else 0.0


def latency_alarms(rng: Rng, truth: Truth) -> Iterator[tuple[bool, bool]]:
    """Yield, look by look, whether our test and the repeated Welch test find it slower."""
    ours, pooled = MeanTest(), [np.zeros(3), np.zeros(3)]
    for look, weight in enumerate(WEIGHTS):
        level = 2 + (math.sin(look / 4) / 2 if truth.drifts else 0)
        candidate = max(rng.binomial(REQUESTS, weight), 2)
        sides = [(REQUESTS - candidate, level), (candidate, level + math.log(truth.factor))]
        sums = [moments(rng.normal(mean, LATENCY_SPREAD, n)) for n, mean in sides]
        ours = ours.updated(sample(sums[1]), sample(sums[0]))
        pooled = [old + new for old, new in zip(pooled, sums, strict=True)]
        champion, challenger = sample(pooled[0]), sample(pooled[1])
        spread = math.sqrt(champion.variance_of_mean + challenger.variance_of_mean)
        bound = ours.lower_bound(ALPHA)
        yield (
            bound is not None and bound > 0,
            (challenger.mean - champion.mean) / spread > Z_CRITICAL,
        )


def moments(values: np.ndarray) -> np.ndarray:
    """Return count, sum and sum of squares."""
    return np.array([len(values), values.sum(), (values**2).sum()])


def sample(sums: np.ndarray) -> Sample:
    """Return the sums as the rollout holds them."""
    return Sample(n=int(sums[0]), total=float(sums[1]), squares=float(sums[2]))
