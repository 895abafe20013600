"""How often a rollout accuses a sound candidate, and how soon it finds a bad one.

Whole rollouts with the shipped knobs, driven through the machine's ``decide`` with simulated
counters: 600 requests a look, an error rate of 1 %, latencies around 50 ms whose logarithms vary
by 0.5. Ours is the share of rollouts that the machine rolled back; theirs, on the same counters,
that of what is usually repeated at each look, each test at 5 %.

Canaries: steps are of 13 looks instead of 20, so that a rollout has 40 looks; the row "as shipped"
has 61, and a rollout that the evidence leans against takes more. Repeated: a pooled z-test of the
error rates and Welch's test of the mean logarithm of latency.

Shadows: every request is mirrored, and the two fail independently; scores of 3 % of the requests
are further apart than ``tolerance``, for no model that was trained anew gives the same ones. What
ends undecided counts as rolled back, which it is. Repeated: McNemar's test of the failures and the
paired t-test of the logarithms of latency.

Blue-green: 40 looks at the champion before the switch, 40 at the candidate after it. It bears what
the time of day may bring (``bake_margin`` of 1), so doubled errors are found by the shadow phase
before it, or with ``bake_margin=0``. Repeated: as for canaries, against the champion's counters.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from airflow_mlops_provider.steps.rollout.kinds import Observation
from airflow_mlops_provider.steps.rollout.lifecycle import RELEASE
from airflow_mlops_provider.steps.rollout.machine import decide
from airflow_mlops_provider.steps.rollout.pairs import Pairs
from airflow_mlops_provider.steps.rollout.plan import BlueGreenPlan, CanaryPlan, ShadowPlan
from benchmarks import Measure

LOOKS, REQUESTS, BASE_RATE = 40, 600, 0.01
LATENCY_MS, LATENCY_SPREAD, Z_CRITICAL = 50.0, 0.5, 1.6449
MOST_LOOKS = 400
DISAGREEMENT, SCORE_SPREAD = 0.03, 0.02
CANDIDATE = {"candidate": "v2", "model_uri": "models:/m/2"}
AS_SHIPPED = CanaryPlan.of(**CANDIDATE)
SHORT = CanaryPlan.of(**CANDIDATE, step_min_seconds=13 * 15)
SHADOW = ShadowPlan.of(**CANDIDATE)
BLUE_GREEN = BlueGreenPlan.of(**CANDIDATE)
STRICT = BlueGreenPlan.of(**CANDIDATE, bake_margin=0)
MIRRORED = BlueGreenPlan.of(**CANDIDATE, shadow_percent=100)
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
    plan: CanaryPlan | ShadowPlan | BlueGreenPlan = SHORT
    disagreement: float = DISAGREEMENT
    """Share of mirrored requests whose scores are further apart than is allowed."""


TRUTHS = (
    Truth("no difference"),
    Truth("no difference, drifting 0-2x", drifts=True),
    Truth("no difference, as shipped", plan=AS_SHIPPED),
    Truth("2x errors", errors=2.0, goal=0.99, looks=LOOKS),
    Truth("2x errors, drifting 0-2x", errors=2.0, drifts=True, goal=0.99, looks=LOOKS),
    Truth("5x errors", errors=5.0, goal=0.99, looks=4),
    Truth("+10 % latency", latency=1.1, goal=0.95, looks=60),
    Truth("shadow, no difference", plan=SHADOW),
    Truth("shadow, no difference, drifting 0-2x", plan=SHADOW, drifts=True),
    Truth("shadow, 2x errors", plan=SHADOW, errors=2.0, goal=0.99, looks=LOOKS),
    Truth("shadow, 5x errors", plan=SHADOW, errors=5.0, goal=0.99, looks=4),
    Truth("shadow, +10 % latency", plan=SHADOW, latency=1.1, goal=0.95, looks=LOOKS),
    Truth("shadow, 15 % disagree", plan=SHADOW, disagreement=0.15, goal=0.99, looks=LOOKS),
    Truth("blue-green, no difference", plan=BLUE_GREEN),
    Truth("blue-green, no difference, drifting 0-2x", plan=BLUE_GREEN, drifts=True),
    Truth("blue-green, 5x errors", plan=BLUE_GREEN, errors=5.0, goal=0.99, looks=4),
    Truth("blue-green, no margin, no difference", plan=STRICT),
    Truth("blue-green, no margin, 2x errors", plan=STRICT, errors=2.0, goal=0.99, looks=LOOKS),
    Truth("blue-green, shadow first, no difference", plan=MIRRORED),
    Truth("blue-green, shadow first, 2x errors", plan=MIRRORED, errors=2.0, goal=0.99, looks=LOOKS),
)


@dataclass
class Endpoint:
    """An endpoint that answers 600 requests between two looks."""

    rng: Rng
    truth: Truth
    traffic: dict[str, int] = field(default_factory=lambda: {"v1": 100})
    mirror: dict[str, int] = field(default_factory=dict)
    counters: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: _zero() for name in DEPLOYMENTS}
    )
    pairs: dict[str, Any] = field(default_factory=lambda: asdict(Pairs()))

    def observed(self) -> Observation:
        """Return what a tick sees."""
        return Observation(
            endpoint="e",
            traffic=self.traffic,
            mirror_traffic=self.mirror,
            deployments=DEPLOYMENTS,
            counters=self.counters,
            pairs={"v2": self.pairs},
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
        if self.mirror:
            self._mirrored(BASE_RATE * (1 + swing))

    def _mirrored(self, error_rate: float) -> None:
        """Answer the requests of one look twice."""
        failed = self.rng.random((2, REQUESTS)) < [[error_rate], [error_rate * self.truth.errors]]
        n = int((~failed).all(axis=0).sum())
        slower = self.rng.normal(math.log(self.truth.latency), LATENCY_SPREAD * math.sqrt(2), n)
        apart = self.rng.normal(0, SCORE_SPREAD, n)
        look = {
            "pairs": n,
            "disagreements": int(self.rng.binomial(n, self.truth.disagreement)),
            "scored": n,
            "difference_sum": float(apart.sum()),
            "difference_sq_sum": float((apart**2).sum()),
            "log_latency_sum": float(slower.sum()),
            "log_latency_sq_sum": float((slower**2).sum()),
            "champion_failed": int((failed[0] & ~failed[1]).sum()),
            "shadow_failed": int((failed[1] & ~failed[0]).sum()),
        }
        self.pairs = {name: value + look[name] for name, value in self.pairs.items()}
        self.counters["v2"]["shadow_requests"] += REQUESTS
        self.counters["v2"]["shadow_errors"] += int(failed[1].sum())


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
    if isinstance(truth.plan, BlueGreenPlan):
        for look in range(-LOOKS, 0):
            endpoint.serve(look)
    state = RELEASE.fresh(truth.plan, endpoint.observed(), now)
    for look in range(MOST_LOOKS):
        state = decide(truth.plan, state, endpoint.observed(), now)
        endpoint.traffic, endpoint.mirror = state.traffic, state.mirror_traffic or {}
        if state.state in ("PROMOTING", "CLOSING", "ROLLING_BACK"):
            state = decide(truth.plan, state, endpoint.observed(), now)
        if looks and theirs == math.inf and accused(endpoint):
            theirs = looks
        if state.ended or (state.kind == "canary" and state.state == "BAKING"):
            break
        looks += bool(endpoint.traffic.get("v2") or endpoint.mirror)
        endpoint.serve(look)
        now += truth.plan.interval_seconds
    return (looks if state.state == "ROLLED_BACK" else math.inf), theirs


def accused(endpoint: Endpoint) -> bool:
    """Tell whether one of the tests that are usually repeated finds the candidate worse."""
    return accused_of_pairs(endpoint.pairs) or accused_of_sides(endpoint.counters)


def accused_of_pairs(pairs: dict[str, Any]) -> bool:
    """Compare the failures of mirrored requests and their latencies."""
    n, one_failed = pairs["pairs"], pairs["champion_failed"] + pairs["shadow_failed"]
    if n < 2:
        return False
    more = pairs["shadow_failed"] - pairs["champion_failed"]
    mean = pairs["log_latency_sum"] / n
    spread = math.sqrt((pairs["log_latency_sq_sum"] / n - mean**2) / n)
    return more > Z_CRITICAL * math.sqrt(one_failed) or mean > Z_CRITICAL * spread


def accused_of_sides(counters: dict[str, dict[str, Any]]) -> bool:
    """Compare the error rates of the two, and their latencies."""
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
        "shadow_requests": 0,
        "shadow_errors": 0,
        "latency_buckets": {"+Inf": 0},
        "log_latency_sum": 0.0,
        "log_latency_sq_sum": 0.0,
    }
