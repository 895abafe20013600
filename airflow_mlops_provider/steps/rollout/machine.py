"""What a rollout does next: a pure function of its plan, its state, what was seen, and the time.

::

    PENDING -> SMOKE -> STEP (each weight) -> PROMOTING -> BAKING -> SUCCEEDED
                          └-> PAUSED -> STEP                (a person ran the task again)
    any of them -> ROLLING_BACK -> ROLLED_BACK | ROLLBACK_FAILED
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_mlops_provider.steps.rollout.evidence import Counts, Sides
from airflow_mlops_provider.steps.rollout.state import RolloutState, routed

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.kinds import Observation
    from airflow_mlops_provider.steps.rollout.plan import CanaryPlan


def decide(
    plan: CanaryPlan, state: RolloutState, observation: Observation, now: float
) -> RolloutState:
    """Return the state that follows from what was seen; pure, and total over all states."""
    if state.ended:
        return state
    if state.state == "PENDING":
        return _pending(plan, state, observation, now)
    if state.state == "ROLLING_BACK":
        return _rolling_back(plan, state, observation, now)
    if not state.expects(observation.traffic):
        return state.entered(
            "PAUSED",
            now,
            weight=state.weight,
            reason=f"somebody else set the traffic to {dict(observation.traffic)}",
        )
    if observation.deployments.get(state.candidate) != state.model_uri:
        return roll_back(state, now, f"deployment {state.candidate!r} is gone or was replaced")
    return _watched(plan, state, observation, now)


def _pending(
    plan: CanaryPlan, state: RolloutState, observation: Observation, now: float
) -> RolloutState:
    if observation.deployments.get(state.candidate) == state.model_uri:
        return state.entered("SMOKE", now, weight=0)
    if now - state.since > plan.ready_timeout_seconds + plan.outage_seconds:
        return roll_back(state, now, f"{state.candidate!r} was not ready in time")
    return state


def _rolling_back(
    plan: CanaryPlan, state: RolloutState, observation: Observation, now: float
) -> RolloutState:
    if routed(observation.traffic) == {state.champion: 100}:
        return replace(state, state="ROLLED_BACK", previous_weight=0, since=now)
    if now - state.since > plan.rollback_timeout_seconds:
        reason = f"{state.reason}; the traffic could not be set back to {state.champion!r}"
        return replace(state, state="ROLLBACK_FAILED", since=now, reason=reason)
    return state


def _watched(
    plan: CanaryPlan, state: RolloutState, observation: Observation, now: float
) -> RolloutState:
    sides = _sides(state, observation)
    if sides is None:
        since = now if state.outage_since is None else state.outage_since
        if now - since >= plan.outage_seconds:
            return roll_back(state, now, f"no counters for {now - since:.0f} s")
        return replace(state, outage_since=since)
    state = replace(state, outage_since=None, evidence=state.evidence.updated(plan, sides))
    against = state.evidence.against(plan)
    if against:
        return roll_back(state, now, against)
    if state.state == "SMOKE":
        return state.entered("STEP", now, weight=plan.steps[0])
    if state.state == "STEP":
        return _step(plan, state, now)
    if state.state == "PROMOTING":
        promoted = routed(observation.traffic) == state.traffic
        return state.entered("BAKING", now, weight=state.weight) if promoted else state
    if now - state.since >= plan.bake_seconds:
        return state.entered("SUCCEEDED", now, weight=state.weight, reason="all steps passed")
    return state


def _step(plan: CanaryPlan, state: RolloutState, now: float) -> RolloutState:
    elapsed, seen = now - state.since, state.evidence.step
    enough = min(seen.champion.requests, seen.candidate.requests) >= plan.min_requests
    leaning = state.evidence.leaning(plan)
    if enough and not leaning and elapsed >= plan.step_min_seconds:
        weight = plan.next_weight(state.weight)
        return state.entered("PROMOTING" if weight == 100 else "STEP", now, weight=weight)
    if elapsed < plan.step_max_seconds:
        return state
    missing = (
        "the evidence points against the candidate but proves nothing"
        if enough
        else f"each side has to answer {plan.min_requests} requests"
    )
    reason = f"inconclusive after {elapsed:.0f} s at {state.weight} %: {missing}"
    if plan.on_inconclusive == "rollback":
        return roll_back(state, now, reason)
    return state.entered("PAUSED", now, weight=state.weight, reason=reason)


def roll_back(state: RolloutState, now: float, reason: str) -> RolloutState:
    """Return the state that wants all traffic back on the champion."""
    return state.entered("ROLLING_BACK", now, weight=0, reason=reason)


def _sides(state: RolloutState, observation: Observation) -> Sides | None:
    """Return the counts of champion and candidate, or None when either is missing."""
    counters = observation.counters or {}
    if state.champion not in counters or state.candidate not in counters:
        return None
    return Sides(
        champion=Counts.read(counters[state.champion]),
        candidate=Counts.read(counters[state.candidate]),
    )
