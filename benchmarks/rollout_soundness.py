"""How often a rollout accuses a sound candidate, and how soon it finds a bad one.

Whole canaries with the shipped knobs, driven through the machine's ``decide`` with simulated
counters: 600 requests a look, an error rate of 1 %, latencies around 50 ms whose logarithms vary
by 0.5. Steps are of 13 looks instead of 20, so that a rollout has 40 looks; the row "as shipped"
has 61, and a rollout that the evidence leans against takes more. Ours is the share of rollouts
that the machine rolled back; theirs, on the same counters, that of what is usually repeated at
each look: a pooled z-test of the error rates and Welch's test of the mean logarithm of latency,
each at 5 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from airflow_mlops_provider.steps.rollout.kinds import Observation
from airflow_mlops_provider.steps.rollout.lifecycle import RELEASE
from airflow_mlops_provider.steps.rollout.machine import decide
from airflow_mlops_provider.steps.rollout.plan import CanaryPlan
from benchmarks import Measure

LOOKS, REQUESTS, BASE_RATE = 40, 600, 0.01
LATENCY_MS, LATENCY_SPREAD, Z_CRITICAL = 50.0, 0.5, 1.6449
MOST_LOOKS = 400
AS_SHIPPED = CanaryPlan.of(candidate="v2", model_uri="models:/m/2")
SHORT = CanaryPlan.of(candidate="v2", model_uri="models:/m/2", step_min_seconds=13 * 15)
DEPLOYMENTS = {"v1": "models:/m/1", "v2": "models:/m/2"}
Rng = np.random.Generator


@dataclass(frozen=True)
class Truth:
    """What the candidate really is like."""

    name: str
    errors: float = 1.0
    latency: float = 1.0
    drifts: bool = False
    """Whether the level that both share moves over the rollout."""
    goal: float | None = None
    """Share of rollouts that have to be rolled back; None for a sound candidate."""
    looks: int = MOST_LOOKS
    """Median of the looks until then, at most."""
    plan: CanaryPlan = SHORT


TRUTHS = (
    Truth("no difference"),
    Truth("no difference, drifting 0-2x", drifts=True),
    Truth("no difference, as shipped", plan=AS_SHIPPED),
    Truth("2x errors", errors=2.0, goal=0.99, looks=LOOKS),
    Truth("2x errors, drifting 0-2x", errors=2.0, drifts=True, goal=0.99, looks=LOOKS),
    Truth("5x errors", errors=5.0, goal=0.99, looks=4),
    Truth("+10 % latency", latency=1.1, goal=0.95, looks=60),
)


@dataclass
class Endpoint:
    """An endpoint that answers 600 requests between two looks."""

    rng: Rng
    truth: Truth
    traffic: dict[str, int] = field(default_factory=lambda: {"v1": 100})
    counters: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: _zero() for name in DEPLOYMENTS}
    )

    def observed(self) -> Observation:
        """Return what a tick sees."""
        return Observation(
            endpoint="e", traffic=self.traffic, deployments=DEPLOYMENTS, counters=self.counters
        )

    def serve(self, look: int) -> None:
        """Answer the requests of one look."""
        swing = math.sin(look / 4) if self.truth.drifts else 0.0
        candidate = int(self.rng.binomial(REQUESTS, self.traffic.get("v2", 0) / 100))
        for name, n in (("v1", REQUESTS - candidate), ("v2", candidate)):
            errors, latency = (
                (self.truth.errors, self.truth.latency) if name == "v2" else (1.0, 1.0)
            )
            counters = self.counters[name]
            counters["requests"] += n
            counters["errors"] += int(self.rng.binomial(n, BASE_RATE * (1 + swing) * errors))
            level = math.log(LATENCY_MS * latency) + swing / 2
            logs = self.rng.normal(level, LATENCY_SPREAD, n)
            counters["latency_buckets"]["+Inf"] += n
            counters["log_latency_sum"] += float(logs.sum())
            counters["log_latency_sq_sum"] += float((logs**2).sum())


def run(quick: bool) -> list[Measure]:
    """Simulate each truth; 100 rollouts when quick, else 1,000."""
    n = 100 if quick else 1000
    return [measure for truth in TRUTHS for measure in compared(truth, n)]


def compared(truth: Truth, n: int) -> list[Measure]:
    """Return the share of rollouts rolled back and, for a bad candidate, the look it took."""
    rng = np.random.default_rng(20130101)
    found = np.array([rollout(rng, truth) for _ in range(n)])
    ours, theirs = np.isfinite(found).mean(axis=0)
    sound = truth.goal is None
    bound = SHORT.alpha if truth.goal is None else truth.goal
    shares = Measure(
        name=f"{truth.name}: rolled back",
        ours=float(ours),
        theirs=float(theirs),
        unit="share",
        goal=f"{'at most' if sound else 'at least'} {bound:.0%}",
        holds=bool(ours <= bound if sound else ours >= bound),
        n=n,
    )
    if sound:
        return [shares]
    looks = np.median(np.minimum(found, MOST_LOOKS), axis=0)
    first = Measure(
        name=f"{truth.name}: looks until found",
        ours=float(looks[0]),
        theirs=float(looks[1]),
        unit="looks",
        goal=f"at most {truth.looks}",
        holds=bool(looks[0] <= truth.looks),
        n=n,
    )
    return [shares, first]


def rollout(rng: Rng, truth: Truth) -> tuple[float, float]:
    """Return after how many looks at the candidate each side accused it; infinite for never.

    The machine holds a step while the evidence leans against the candidate, so ours may take more
    looks than were planned. Theirs is asked for as long as ours goes on.
    """
    endpoint, now, looks, theirs = Endpoint(rng, truth), 0.0, 0, math.inf
    state = RELEASE.fresh(truth.plan, endpoint.observed(), now)
    for look in range(MOST_LOOKS):
        state = decide(truth.plan, state, endpoint.observed(), now)
        endpoint.traffic = state.traffic
        if state.state in ("PROMOTING", "ROLLING_BACK"):
            state = decide(truth.plan, state, endpoint.observed(), now)
        if looks and theirs == math.inf and accused(endpoint.counters):
            theirs = looks
        if state.ended or state.state == "BAKING":
            break
        looks += bool(endpoint.traffic.get("v2"))
        endpoint.serve(look)
        now += truth.plan.interval_seconds
    return (looks if state.state == "ROLLED_BACK" else math.inf), theirs


def accused(counters: dict[str, dict[str, Any]]) -> bool:
    """Tell whether one of the tests that are usually repeated finds the candidate worse."""
    champion, candidate = counters["v1"], counters["v2"]
    n = np.array([champion["requests"], candidate["requests"]])
    if n.min() < 2:
        return False
    k = np.array([champion["errors"], candidate["errors"]])
    pooled = k.sum() / n.sum()
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n).sum())
    means = np.array([side["log_latency_sum"] for side in (champion, candidate)]) / n
    squares = np.array([side["log_latency_sq_sum"] for side in (champion, candidate)])
    welch = math.sqrt(((squares / n - means**2) / n).sum())
    rates = k / n
    worse = spread > 0 and (rates[1] - rates[0]) / spread > Z_CRITICAL
    return bool(worse or (means[1] - means[0]) / welch > Z_CRITICAL)


def _zero() -> dict[str, Any]:
    return {
        "requests": 0,
        "errors": 0,
        "schema_violations": 0,
        "latency_buckets": {"+Inf": 0},
        "log_latency_sum": 0.0,
        "log_latency_sq_sum": 0.0,
    }
