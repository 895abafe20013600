"""What a release has seen so far: counters turned into evidence, look by look."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.steps.rollout import pairs as paired
from airflow_mlops_provider.steps.rollout.counts import Counts, Sides
from airflow_mlops_provider.steps.rollout.metrics import MetricTest
from airflow_mlops_provider.steps.rollout.pairs import Pairs
from airflow_mlops_provider.steps.rollout.sequential import MeanTest, RateTest, ShareTest

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.plan import BlueGreenPlan
    from airflow_mlops_provider.steps.rollout.release import ReleasePlan, ShadowRules

GUARDRAIL_REQUESTS = 50
"""Requests before the guardrail on the error rate speaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The tests of a whole release and the counts of its current step."""

    seen: Sides | None = None
    """Cumulative counters at the last look; None before the first."""
    waiting: Sides = field(default_factory=Sides)
    """Latencies that are too few yet to be a look of the latency test."""
    step: Sides = field(default_factory=Sides)
    failing_streak: int = 0
    errors: RateTest
    latency: MeanTest = field(default_factory=MeanTest)
    metrics: dict[str, MetricTest] = field(default_factory=dict)
    slow_above: str | None = None
    """The latency bucket above the champion's 95th percentile, once it is known."""
    pairs_seen: Pairs | None = None
    pairs: Pairs = field(default_factory=Pairs)
    """What mirrored traffic gave since its phase began."""
    baseline: Counts | None = None
    """What the champion had counted when all traffic left it."""

    @classmethod
    def begin(cls, plan: ReleasePlan) -> Evidence:
        """Return the evidence before the first look."""
        tests = {spec.name: MetricTest.of(spec) for spec in plan.own_metrics}
        return cls(errors=RateTest(margin=plan.margin), metrics=tests)

    def updated(self, plan: ReleasePlan, now: Sides) -> Evidence:
        """Add a look at the cumulative counters ``now``."""
        if self.seen is None:
            return replace(self, seen=now)
        look = now.since(self.seen)
        waiting, latency = self.waiting.plus(look), self.latency
        if min(waiting.champion.timed, waiting.candidate.timed) >= 2:
            latency = latency.updated(waiting.candidate.latency, waiting.champion.latency)
            waiting = Sides()
        return replace(
            self,
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
            metrics={
                spec.name: self.metrics[spec.name].updated(spec, look) for spec in plan.own_metrics
            },
        )

    def watched(self, now: Sides) -> Evidence:
        """Add a look at counters of which the two sides are no comparison."""
        look = now.since(self.seen or now)
        streak = self._streak(look.candidate)
        return replace(self, seen=now, step=self.step.plus(look), failing_streak=streak)

    def mirrored(self, now: Pairs) -> Evidence:
        """Add a look at the cumulative counts of mirrored requests."""
        look = now.since(self.pairs_seen or now)
        return replace(self, pairs_seen=now, pairs=self.pairs.plus(look))

    def next_step(self) -> Evidence:
        """Begin the counts of a new weight; the tests run on across weights."""
        return replace(self, step=Sides(), waiting=Sides())

    def after_gap(self) -> Evidence:
        """Forget the last look, because what was counted after it cannot be compared."""
        return replace(self.next_step(), seen=None, failing_streak=0)

    def findings(self, plan: ReleasePlan) -> list[tuple[str, str]]:
        """Return what live traffic proves against the candidate, as (test, reason)."""
        found = []
        if self.errors.rejects(plan.alpha_of("errors")):
            found.append(
                (
                    "errors",
                    f"the candidate's error rate exceeds the champion's by more than "
                    f"{plan.margin:.0%} (e-value {self.errors.e_value:g} over "
                    f"{1 / plan.alpha_of('errors'):g})",
                )
            )
        slower = self.latency.lower_bound(plan.alpha_of("latency"))
        if slower is not None and plan.too_slow(slower, self._typical_ms()):
            found.append(
                (
                    "latency",
                    f"the candidate is at least {math.expm1(slower):.0%} slower than the "
                    f"champion, {plan.latency_margin:.0%} is allowed",
                )
            )
        for spec in plan.own_metrics:
            reason = self.metrics[spec.name].finding(spec, plan.alpha_of(spec.name))
            if reason:
                found.append((spec.name, reason))
        return found

    def shadow_findings(self, plan: ReleasePlan, rules: ShadowRules) -> list[tuple[str, str]]:
        """Return what mirrored traffic proves against the candidate, as (test, reason)."""
        return paired.findings(self.pairs, plan, rules, self._typical_ms())

    def bake_findings(self, plan: BlueGreenPlan) -> list[tuple[str, str]]:
        """Return in what the candidate is proven worse than the champion was before it."""
        before, after, alpha = self.baseline, self.step.candidate, plan.alpha / 4
        if before is None or min(before.requests, after.requests) < GUARDRAIL_REQUESTS:
            return []
        found = []
        allowed = (1 + plan.bake_margin) * _share(before).bounds(alpha)[1]
        if _share(after).bounds(alpha)[0] > allowed:
            found.append(
                (
                    "errors",
                    f"{after.errors} of {after.requests} requests failed, more than "
                    f"{allowed:.1%}, which {plan.bake_margin:.0%} more than before would be",
                )
            )
        if min(before.timed, after.timed) < 2:
            return found
        slower = MeanTest().updated(after.latency, before.latency).lower_bound(plan.alpha / 2)
        if slower is not None and slower > math.log1p(plan.bake_margin):
            reason = f"it is at least {math.expm1(slower):.0%} slower than the champion was"
            found.append(("latency", reason))
        return found

    def leaning(self, plan: ReleasePlan) -> bool:
        """Tell whether the evidence points against the candidate without proving it yet.

        For rates that is half the way (in logarithm) to rejection, so that one stray error at
        a small weight does not hold a rollout; for latency an estimate beyond the margin. What
        is in ``dry_run_metrics`` holds nothing.
        """
        slower = self.latency.difference
        slow = slower is not None and plan.too_slow(slower, self._typical_ms())
        leaning = {
            "errors": self.errors.leans(plan.alpha_of("errors")),
            "latency": slow,
            **{name: test.leans(plan.alpha_of(name)) for name, test in self.metrics.items()},
        }
        return any(leans for test, leans in leaning.items() if test not in plan.dry_run_metrics)

    def broken_guardrail(self, plan: ReleasePlan) -> str | None:
        """Say which limit the candidate broke in this step, if any."""
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

    def summary(self) -> dict[str, Any]:
        """Return the step's counts and the tests' state as a few JSON numbers."""
        slower = self.latency.difference
        own = {name: test.summary() for name, test in self.metrics.items()}
        return {
            "champion_requests": self.step.champion.requests,
            "champion_errors": self.step.champion.errors,
            "candidate_requests": self.step.candidate.requests,
            "candidate_errors": self.step.candidate.errors,
            "candidate_schema_violations": self.step.candidate.schema_violations,
            "error_e_value": self.errors.e_value,
            "latency_ratio": None if slower is None else round(math.exp(slower), 4),
            **({"metrics": own} if own else {}),
        }

    def _streak(self, look: Counts) -> int:
        if look.requests == 0:
            return self.failing_streak
        return self.failing_streak + look.errors if look.errors == look.requests else 0

    def _typical_ms(self) -> float:
        champion = self.seen.champion.latency if self.seen else None
        return math.exp(champion.mean) if champion and champion.n else 0.0


def _share(counts: Counts) -> ShareTest:
    return ShareTest(n=counts.requests, events=counts.errors)
