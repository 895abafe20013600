"""An A/B test as a kind of rollout: what the driver does between looks, and what a look changes.

::

    PENDING -> SMOKE -> STEP (the split) -> PROMOTING -> BAKING -> SUCCEEDED      (better)
                          └-> ROLLING_BACK -> ROLLED_BACK      (worse, inconclusive, invalid)

The canary's machine drives all of it but the end of the step: between looks it only watches
errors and latency. When a look is due the driver leaves it to a worker, which reads exposures and
outcomes, and the finding ends the step or sets the time of the next look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, cast

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import ABTestVerdict
from airflow_mlops_provider.steps.experiment.look import Look, judge
from airflow_mlops_provider.steps.experiment.plan import ABTestPlan
from airflow_mlops_provider.steps.experiment.units import measured
from airflow_mlops_provider.steps.rollout import machine
from airflow_mlops_provider.steps.rollout.lifecycle import RELEASE
from airflow_mlops_provider.steps.rollout.state import RolloutState, State, routed

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlops_provider.steps.rollout.kinds import Observation

_IN_SHORT = (
    "champion_units",
    "candidate_units",
    "coverage",
    "difference",
    "low",
    "high",
    "e_value",
    "mismatch_e_value",
    "outcome_mismatch_e_value",
)
"""What the history keeps of each moment; the state holds all figures of the last look."""
MAX_FAILED_LOOKS = 3
"""Looks in a row that may fail for want of data before the test ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ABTestState(RolloutState):
    """One moment of an A/B test."""

    kind: str = "ab_test"
    sticky: bool = False
    was_sticky: bool = False
    """Whether the endpoint was sticky before, as it will be again."""
    started: float | None = None
    """Since when the split has been seen in force: exposures count from there."""
    look_due: float | None = None
    looking: bool = False
    """Whether a worker is to take a look."""
    looks: int = 0
    failed_looks: int = 0
    """Looks in a row that found no data to read."""
    finding: str = "undecided"
    conclusion: str = ""
    """Why the test ended."""
    figures_seen: dict[str, Any] = field(default_factory=dict)
    """What the last look found."""

    @property
    def arms(self) -> tuple[str, str]:
        """The deployments that are compared."""
        return self.champion, self.candidate

    @property
    def for_worker(self) -> bool:
        """Whether a look is due."""
        return self.looking and self.state == "STEP"

    @property
    def settings(self) -> dict[str, Any]:
        """Assignment sticks to entities as long as the traffic is split."""
        return {"sticky": self.sticky if 0 < self.weight < 100 else self.was_sticky}

    def figures(self) -> dict[str, Any]:
        """Return what the last look found in short, and the counts of the guardrails."""
        seen = {name: self.figures_seen[name] for name in _IN_SHORT if name in self.figures_seen}
        return {**self.evidence.summary(), **seen}

    def describe(self) -> str:
        """Say in a line where the test stands."""
        line = f"{self.state}, {self.candidate} at {self.weight} %, {self.looks} looks"
        if self.reason:
            return f"{line}: {self.reason}"
        seen = self.figures_seen
        if seen.get("difference") is None:
            return line
        return (
            f"{line}: difference {seen['difference']:g} ({seen['low']:g} to {seen['high']:g}) on "
            f"{seen['champion_units']} and {seen['candidate_units']} units"
        )

    def verdict(self, endpoint: str) -> ABTestVerdict:  # type: ignore[override]  # a record of its own
        """Return the record of a test that ended."""
        return ABTestVerdict.from_xcom(
            {
                "endpoint": endpoint,
                "champion": self.champion,
                "candidate": self.candidate,
                "state": self.state,
                "finding": "stopped" if self.finding == "undecided" else self.finding,
                "reason": self.reason or self.conclusion,
                "looks": self.looks,
                "figures": self.figures_seen,
                "steps": list(self.steps),
            }
        )


class ABTest:
    """The kind ``ab_test``."""

    state = ABTestState

    def plan(self, payload: Mapping[str, Any]) -> ABTestPlan:
        """Rebuild a plan from its JSON."""
        return ABTestPlan.from_xcom(payload)

    def needs(self, plan: ABTestPlan) -> frozenset[str]:
        """Return the capabilities that the target must have."""
        sticky = {"sticky"} if plan.question.unit == "entity" else set()
        return frozenset({"traffic", "observe", "lease"} | sticky)

    def fresh(self, plan: ABTestPlan, observation: Observation, now: float) -> ABTestState:
        """Return the first state, against the one deployment that serves all traffic."""
        begun = RELEASE.fresh(plan.guard, observation, now)
        known = {each.name: getattr(begun, each.name) for each in fields(begun)}
        known |= {"kind": plan.kind, "sticky": plan.question.unit == "entity"}
        return ABTestState(**known, was_sticky=observation.sticky)

    def resumed(
        self, plan: ABTestPlan, state: ABTestState, observation: Observation, now: float
    ) -> ABTestState:
        """Begin to count anew: who met which arm meanwhile was not up to the test.

        Raises:
            ParameterError: the traffic is not at the split.
        """
        if routed(observation.traffic) != replace(state, weight=plan.question.split).traffic:
            raise ParameterError(
                f"Endpoint {observation.endpoint!r} sends its traffic to "
                f"{routed(observation.traffic)}, but the paused test splits it between "
                f"{state.champion!r} and {state.candidate!r} at {plan.question.split} %. Set "
                "it so, or end the test by deploying one of them with traffic 100."
            )
        going = RELEASE.resumed(plan.guard, state, observation, now)
        return replace(
            cast("ABTestState", going),
            started=None,
            look_due=None,
            looking=False,
            failed_looks=0,
            figures_seen={},
        )

    def decide(
        self, plan: ABTestPlan, state: ABTestState, observation: Observation, now: float
    ) -> ABTestState:
        """Let the canary's machine guard and move the traffic, and say when a look is due."""
        moved = cast("ABTestState", machine.decide(plan.guard, state, observation, now))
        if moved.state == "ROLLING_BACK" and state.state != "ROLLING_BACK":
            return replace(moved, finding="stopped", conclusion=moved.reason)
        if moved.state == "SUCCEEDED" and moved.conclusion:
            return replace(moved, reason=moved.conclusion)
        if (state.state, moved.state) != ("STEP", "STEP") or moved.outage_since is not None:
            return moved
        if moved.started is None:
            begun = routed(observation.traffic) == moved.traffic
            return _waiting(plan, replace(moved, started=now), now) if begun else moved
        due = moved.look_due is not None and now >= moved.look_due
        return replace(moved, looking=True) if due else moved

    def roll_back(self, state: ABTestState, now: float, reason: str) -> ABTestState:
        """Return the state that wants all traffic back on the champion."""
        back = cast("ABTestState", machine.roll_back(state, now, reason))
        return replace(back, finding="stopped", conclusion=reason, looking=False)

    def judged(
        self,
        plan: ABTestPlan,
        state: ABTestState,
        exposures: pd.DataFrame,
        outcomes: pd.DataFrame,
        now: float,
    ) -> ABTestState:
        """Return the state that follows from the data of a look."""
        question = plan.question
        arms = measured(
            exposures,
            outcomes,
            deployments=state.arms,
            mature_before=now - question.label_delay_seconds,
            unit=question.unit,
            metric=question.metric,
            missing=question.missing,
        )
        assert state.started is not None  # looks are taken only once it is
        look = judge(question, arms, state.champion, state.candidate, now - state.started)
        return _concluded(plan, state, look, now)

    def missed(self, plan: ABTestPlan, state: ABTestState, why: str, now: float) -> ABTestState:
        """Return the state that follows from a look that found nothing to read."""
        failed = state.failed_looks + 1
        reason = f"{failed} looks in a row could not read their data: {why}"
        if failed < MAX_FAILED_LOOKS:
            return replace(_waiting(plan, state, now), failed_looks=failed, reason=reason)
        return self.roll_back(state, now, reason)


AB_TEST = ABTest()


_WORDS = {
    "better": "better",
    "worse": "not better",
    "inconclusive": "not told from the champion",
    "invalid": "not to be judged",
}


def _concluded(plan: ABTestPlan, state: ABTestState, look: Look, now: float) -> ABTestState:
    state = replace(
        state,
        looks=state.looks + 1,
        failed_looks=0,
        finding=look.finding,
        figures_seen=look.summary(),
        reason="",
    )
    if look.finding == "undecided":
        return _waiting(plan, state, now)
    conclusion = f"{state.candidate} is {_WORDS[look.finding]}: {look.reason}"
    ended = replace(state, looking=False, conclusion=conclusion)
    if look.finding == "better" and plan.on_win == "promote":
        return _entered(ended, "PROMOTING", now, 100)
    return _entered(ended, "ROLLING_BACK", now, 0)


def _entered(state: ABTestState, name: State, now: float, weight: int) -> ABTestState:
    moved = state.entered(name, now, weight=weight, reason=state.conclusion)
    return cast("ABTestState", moved)


def _waiting(plan: ABTestPlan, state: ABTestState, now: float) -> ABTestState:
    """Set the time of the next look; the last one is at the end of the test."""
    assert state.started is not None  # looks are taken only once it is
    due, end = now + plan.question.look_seconds, state.started + plan.question.max_seconds
    return replace(state, looking=False, look_due=min(due, end) if now < end else due)
