"""The three ways to release a model version: canary, shadow, blue-green."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from airflow_mlops_provider.steps.rollout.metrics import MetricSpec  # noqa: TC001 - a field type
from airflow_mlops_provider.steps.rollout.release import ReleasePlan, ShadowRules


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotingPlan(ReleasePlan):
    """The knobs of releases that end with all traffic on the candidate."""

    min_requests: int = 200
    """Requests that each side has to answer in each step, and the candidate while it bakes."""
    metrics: tuple[MetricSpec, ...] = ()
    on_inconclusive: Literal["pause", "rollback"] = "pause"
    approval: Literal["none", "between_steps", "before_promotion"] = "none"
    """Where the traffic holds until somebody approves."""
    approval_seconds: float = 86_400
    """How long to wait for an approval; without one the rollout is paused."""
    bake_seconds: float = 600
    """How long the candidate is watched at 100 %."""
    keep_seconds: float | None = None
    """How long the old version stays ready after that, still watched, before it is undeployed;
    None leaves it deployed and ends at once."""
    shadow_percent: int = 0
    """Percent of requests that are mirrored to the candidate before it gets any; 0 leaves the
    phase out."""
    shadow_min_pairs: int = 200
    shadow_min_seconds: float = 300
    shadow_max_seconds: float = 3600

    @property
    def own_metrics(self) -> tuple[MetricSpec, ...]:
        """The metrics that were asked for beside errors and latency."""
        return self.metrics

    @property
    def shadow(self) -> ShadowRules | None:
        """How the phase of mirrored traffic is judged; None when there is none."""
        if self.shadow_percent == 0:
            return None
        return ShadowRules(
            percent=self.shadow_percent,
            min_pairs=self.shadow_min_pairs,
            min_seconds=self.shadow_min_seconds,
            max_seconds=self.shadow_max_seconds,
            tolerance=self.tolerance,
            max_disagreement=self.max_disagreement,
            max_shift=self.max_shift,
        )

    def needs_approval(self, weight: int, following: int) -> bool:
        """Tell whether somebody has to approve going from ``weight`` percent to ``following``."""
        between = self.approval == "between_steps" and weight > 0
        return between or (self.approval != "none" and following == 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPlan(PromotingPlan):
    """More and more of the traffic, for as long as the evidence allows."""

    kind: Literal["canary"] = "canary"
    steps: tuple[int, ...] = (5, 25, 50, 100)
    """The candidate's percent of traffic, ascending, from below 100 to 100."""
    step_min_seconds: float = 300
    step_max_seconds: float = 3600
    """When a step is still undecided after this long, it is inconclusive."""
    shield: bool = False
    """Ask the old version again what the candidate failed: users see no failure of it, and its
    failures still count."""

    @property
    def weights(self) -> tuple[int, ...]:
        """The candidate's percent of traffic, step by step; the last is the promotion."""
        return self.steps

    @property
    def shields(self) -> bool:
        """Whether failures of the candidate are hidden from users."""
        return self.shield

    def check(self) -> None:
        """Raise ParameterError for a knob outside its limits."""
        ascending = all(a < b for a, b in pairwise((0, *self.steps)))
        if not ascending or len(self.steps) < 2 or self.steps[-1] != 100:
            raise self.wrong("steps", "ascending percents from below 100 to 100", self.steps)
        if self.step_max_seconds <= self.step_min_seconds:
            constraint = f"more than step_min_seconds ({self.step_min_seconds:g})"
            raise self.wrong("step_max_seconds", constraint, self.step_max_seconds)
        PromotingPlan.check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlueGreenPlan(PromotingPlan):
    """All the traffic in one step, and back in one step for as long as it is watched."""

    kind: Literal["blue_green"] = "blue_green"
    bake_max_seconds: float = 3600
    """When the candidate has not answered ``min_requests`` after this long at 100 %, the bake is
    inconclusive."""
    bake_margin: float = 1.0
    """How much higher, relatively, error rate and latency may be than the old version's were
    before: the two are not seen at the same time, so the day's course is in the comparison."""

    @property
    def weights(self) -> tuple[int, ...]:
        """The candidate's percent of traffic, step by step; the last is the promotion."""
        return (100,)

    def check(self) -> None:
        """Raise ParameterError for a knob outside its limits."""
        if self.bake_max_seconds <= self.bake_seconds:
            constraint = f"more than bake_seconds ({self.bake_seconds:g})"
            raise self.wrong("bake_max_seconds", constraint, self.bake_max_seconds)
        PromotingPlan.check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPlan(ReleasePlan):
    """Mirrored traffic only: users never see an answer of the candidate."""

    kind: Literal["shadow"] = "shadow"
    mirror_percent: int = 100
    min_pairs: int = 500
    """Requests that both sides have to answer."""
    min_seconds: float = 300
    max_seconds: float = 3600
    """When it is still undecided after this long, it is inconclusive."""

    @property
    def shadow(self) -> ShadowRules:
        """How mirrored traffic is judged."""
        return ShadowRules(
            percent=self.mirror_percent,
            min_pairs=self.min_pairs,
            min_seconds=self.min_seconds,
            max_seconds=self.max_seconds,
            tolerance=self.tolerance,
            max_disagreement=self.max_disagreement,
            max_shift=self.max_shift,
        )
