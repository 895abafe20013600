"""What a rollout has seen so far: counters turned into evidence, look by look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.steps.rollout.sequential import MeanTest, RateTest, Sample

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.plan import CanaryPlan

GUARDRAIL_REQUESTS = 50
"""Requests before the guardrail on the error rate speaks."""
_METRICS = 2
"""Error rate and latency share ``alpha``."""
_LARGEST_LOG = 25.0
"""E-values are reported up to about 7e10: beyond it nobody needs the digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests of one deployment and what became of them."""

    requests: int = 0
    errors: int = 0
    schema_violations: int = 0
    timed: int = 0
    """Requests whose latency was measured."""
    log_sum: float = 0.0
    log_squares: float = 0.0

    @classmethod
    def read(cls, counters: Mapping[str, Any]) -> Counts:
        """Take what matters from the cumulative counters that a serving target reports."""
        return cls(
            requests=counters["requests"],
            errors=counters["errors"],
            schema_violations=counters["schema_violations"],
            timed=counters["latency_buckets"].get("+Inf", 0),
            log_sum=counters["log_latency_sum"],
            log_squares=counters["log_latency_sq_sum"],
        )

    def since(self, before: Counts) -> Counts:
        """Return what was counted after ``before``; a restarted counter began at zero."""
        mine, theirs = self._integers(), before._integers()
        if any(now < then for now, then in zip(mine, theirs, strict=True)):
            return self
        return self._combined(before, -1)

    def plus(self, other: Counts) -> Counts:
        """Return the sum of both."""
        return self._combined(other, 1)

    @property
    def latency(self) -> Sample:
        """The logarithms of the measured latencies."""
        return Sample(n=self.timed, total=self.log_sum, squares=self.log_squares)

    def _integers(self) -> tuple[int, ...]:
        return self.requests, self.errors, self.schema_violations, self.timed

    def _combined(self, other: Counts, sign: int) -> Counts:
        return Counts(
            requests=self.requests + sign * other.requests,
            errors=self.errors + sign * other.errors,
            schema_violations=self.schema_violations + sign * other.schema_violations,
            timed=self.timed + sign * other.timed,
            log_sum=self.log_sum + sign * other.log_sum,
            log_squares=self.log_squares + sign * other.log_squares,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The counts of both deployments."""

    champion: Counts = field(default_factory=Counts)
    candidate: Counts = field(default_factory=Counts)

    def since(self, before: Sides) -> Sides:
        """Return what each side counted after ``before``."""
        return Sides(
            champion=self.champion.since(before.champion),
            candidate=self.candidate.since(before.candidate),
        )

    def plus(self, other: Sides) -> Sides:
        """Return the sums of both sides."""
        return Sides(
            champion=self.champion.plus(other.champion),
            candidate=self.candidate.plus(other.candidate),
        )

    @property
    def share(self) -> float:
        """The candidate's share of the requests; 0 when there were none."""
        total = self.champion.requests + self.candidate.requests
        return self.candidate.requests / total if total else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The tests of a whole rollout and the counts of its current step."""

    seen: Sides | None = None
    """Cumulative counters at the last look; None before the first."""
    waiting: Sides = field(default_factory=Sides)
    """Latencies that are too few yet to be a look of the latency test."""
    step: Sides = field(default_factory=Sides)
    failing_streak: int = 0
    errors: RateTest
    latency: MeanTest = field(default_factory=MeanTest)

    def updated(self, plan: CanaryPlan, now: Sides) -> Evidence:
        """Add a look at the cumulative counters ``now``."""
        if self.seen is None:
            return replace(self, seen=now)
        look = now.since(self.seen)
        waiting, latency = self.waiting.plus(look), self.latency
        if min(waiting.champion.timed, waiting.candidate.timed) >= 2:
            latency = latency.updated(waiting.candidate.latency, waiting.champion.latency)
            waiting = Sides()
        return Evidence(
            seen=now,
            waiting=waiting,
            step=self.step.plus(look),
            failing_streak=self._streak(look.candidate),
            errors=self.errors.updated(
                candidate_events=look.candidate.errors,
                champion_events=look.champion.errors,
                share=look.share,
            ),
            latency=latency,
        )

    def next_step(self) -> Evidence:
        """Begin the counts of a new weight; the tests run on across weights."""
        return replace(self, step=Sides(), waiting=Sides())

    def after_gap(self) -> Evidence:
        """Forget the last look, because the weights moved unseen after it."""
        return replace(self.next_step(), seen=None)

    def against(self, plan: CanaryPlan) -> str | None:
        """Say why the candidate must go, if it must."""
        return self._broken_guardrail(plan) or self._failed_test(plan)

    def leaning(self, plan: CanaryPlan) -> bool:
        """Tell whether the evidence points against the candidate without proving it yet.

        For errors that is half the way (in logarithm) to rejection, so that one stray error at
        a small weight does not hold a rollout; for latency an estimate beyond the margin.
        """
        slower = self.latency.difference
        return self.errors.log_e_value > _threshold(plan) / 2 or self._matters(plan, slower)

    def summary(self) -> dict[str, Any]:
        """Return the step's counts and the tests' state as a few JSON numbers."""
        slower = self.latency.difference
        return {
            "champion_requests": self.step.champion.requests,
            "champion_errors": self.step.champion.errors,
            "candidate_requests": self.step.candidate.requests,
            "candidate_errors": self.step.candidate.errors,
            "candidate_schema_violations": self.step.candidate.schema_violations,
            "error_e_value": float(f"{math.exp(min(self.errors.log_e_value, _LARGEST_LOG)):.4g}"),
            "latency_ratio": None if slower is None else round(math.exp(slower), 4),
        }

    def _streak(self, look: Counts) -> int:
        if look.requests == 0:
            return self.failing_streak
        return self.failing_streak + look.errors if look.errors == look.requests else 0

    def _matters(self, plan: CanaryPlan, slower: float | None) -> bool:
        """Tell whether a difference of log latency is beyond the margin and the slack."""
        if slower is None or self.seen is None or slower <= math.log1p(plan.latency_margin):
            return False
        champion = self.seen.champion.latency
        typical = math.exp(champion.mean) if champion.n else 0.0
        return typical * math.expm1(slower) > plan.latency_slack_ms

    def _broken_guardrail(self, plan: CanaryPlan) -> str | None:
        candidate = self.step.candidate
        if candidate.schema_violations > plan.max_schema_violations:
            return (
                f"{candidate.schema_violations} of {candidate.requests} answers broke the output "
                f"schema, {plan.max_schema_violations} are allowed"
            )
        if self.failing_streak >= plan.max_consecutive_errors:
            return f"the candidate's last {self.failing_streak} requests all failed"
        if (
            candidate.requests >= GUARDRAIL_REQUESTS
            and candidate.errors > plan.max_error_rate * candidate.requests
        ):
            return (
                f"{candidate.errors} of {candidate.requests} requests failed, more than "
                f"max_error_rate {plan.max_error_rate:.0%}"
            )
        return None

    def _failed_test(self, plan: CanaryPlan) -> str | None:
        if self.errors.log_e_value > _threshold(plan):
            return (
                f"the candidate's error rate exceeds the champion's by more than "
                f"{plan.margin:.0%} (e-value {self.summary()['error_e_value']:g} over "
                f"{math.exp(_threshold(plan)):g})"
            )
        slower = self.latency.lower_bound(plan.alpha / _METRICS)
        if slower is not None and self._matters(plan, slower):
            return (
                f"the candidate is at least {math.expm1(slower):.0%} slower than the champion, "
                f"{plan.latency_margin:.0%} is allowed"
            )
        return None


def _threshold(plan: CanaryPlan) -> float:
    return math.log(_METRICS / plan.alpha)
