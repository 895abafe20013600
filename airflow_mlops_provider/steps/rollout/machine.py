"""What a release does next: a pure function of its plan, its state, what was seen, and the time.

::

    PENDING -> SMOKE -> SHADOW? -> STEP (each weight) -> PROMOTING -> BAKING -> SUCCEEDED
                          │          ├-> AWAIT_APPROVAL        └-> KEEPING -> RETIRING ┘
                          │          └-> PAUSED -> STEP     (a person ran the task again)
                          └-> CLOSING -> SUCCEEDED          (a shadow rollout ends here)
    any of them -> ROLLING_BACK -> ROLLED_BACK | ROLLBACK_FAILED

A blue-green release has no STEP: from SMOKE, SHADOW or AWAIT_APPROVAL it goes to PROMOTING.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_mlops_provider.steps.rollout.pairs import Pairs, passes
from airflow_mlops_provider.steps.rollout.plan import BlueGreenPlan, CanaryPlan, PromotingPlan
from airflow_mlops_provider.steps.rollout.readings import knowing_slow, read_pairs, read_sides
from airflow_mlops_provider.steps.rollout.state import RolloutState, State, routed

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.counts import Sides
    from airflow_mlops_provider.steps.rollout.kinds import Observation
    from airflow_mlops_provider.steps.rollout.release import ReleasePlan

Findings = list[tuple[str, str]]


def decide(
    plan: ReleasePlan, state: RolloutState, observation: Observation, now: float
) -> RolloutState:
    """Return the state that follows from what was seen; pure, and total over all states."""
    if state.ended:
        return state
    if state.state in _UNWATCHED:
        return _UNWATCHED[state.state](plan, state, observation, now)
    if routed(observation.traffic) == state.traffic:
        state = state.settled()
    if not state.expects(observation.traffic):
        return _paused(state, now, f"somebody else set the traffic to {dict(observation.traffic)}")
    if observation.deployments.get(state.candidate) != state.model_uri:
        return roll_back(state, now, f"deployment {state.candidate!r} is gone or was replaced")
    state = knowing_slow(plan, state, observation)
    sides = read_sides(plan, state, observation)
    unpaired = state.state == "SHADOW" and read_pairs(state, observation) is None
    if sides is None or unpaired:
        return _blind(plan, state, now)
    state = replace(state, outage_since=None)
    return _WATCHED[state.state](plan, state, observation, sides, now)


def roll_back(state: RolloutState, now: float, reason: str) -> RolloutState:
    """Return the state that wants all traffic back on the champion, and no mirroring."""
    return state.entered("ROLLING_BACK", now, weight=0, reason=reason)


def _pending(
    plan: ReleasePlan, state: RolloutState, observation: Observation, now: float
) -> RolloutState:
    if observation.deployments.get(state.candidate) == state.model_uri:
        return state.entered("SMOKE", now, weight=0)
    if now - state.since > plan.ready_timeout_seconds + plan.outage_seconds:
        return roll_back(state, now, f"{state.candidate!r} was not ready in time")
    return state


def _closing(
    plan: ReleasePlan, state: RolloutState, observation: Observation, now: float
) -> RolloutState:
    if not state.expects(observation.traffic):
        return _paused(state, now, f"somebody else set the traffic to {dict(observation.traffic)}")
    if state.candidate in routed(observation.mirror_traffic):
        return state
    return state.entered("SUCCEEDED", now, weight=0, reason="it agrees with the champion")


def _retiring(
    plan: ReleasePlan, state: RolloutState, observation: Observation, now: float
) -> RolloutState:
    if state.champion not in observation.deployments:
        return _succeeded(state, now)
    if now - state.since > plan.rollback_timeout_seconds:
        return _succeeded(state, now, f", but {state.champion!r} could not be undeployed")
    return state


def _rolling_back(
    plan: ReleasePlan, state: RolloutState, observation: Observation, now: float
) -> RolloutState:
    mirrored = state.mirror_traffic is not None and routed(observation.mirror_traffic)
    home = not state.moves_traffic or routed(observation.traffic) == {state.champion: 100}
    if home and not mirrored:
        return replace(state, state="ROLLED_BACK", previous_weight=0, since=now)
    if now - state.since > plan.rollback_timeout_seconds:
        reason = f"{state.reason}; the traffic could not be set back to {state.champion!r}"
        return replace(state, state="ROLLBACK_FAILED", since=now, reason=reason)
    return state


def _smoke(
    plan: ReleasePlan, state: RolloutState, observation: Observation, sides: Sides, now: float
) -> RolloutState:
    evidence = state.evidence.updated(plan, sides)
    if plan.shadow is None:
        return _advanced(plan, replace(state, evidence=evidence), now)
    begun = replace(state, evidence=evidence.mirrored(read_pairs(state, observation) or Pairs()))
    return replace(begun.entered("SHADOW", now, weight=0), mirror_percent=plan.shadow.percent)


def _shadow(
    plan: ReleasePlan, state: RolloutState, observation: Observation, sides: Sides, now: float
) -> RolloutState:
    rules, pairs = plan.shadow, read_pairs(state, observation)
    assert rules is not None
    assert pairs is not None
    evidence = state.evidence.watched(sides).mirrored(pairs)
    state, against = _judged(
        plan, replace(state, evidence=evidence), evidence.shadow_findings(plan, rules)
    )
    if against:
        return roll_back(state, now, against)
    elapsed = now - state.since
    if elapsed >= rules.min_seconds and passes(evidence.pairs, plan, rules):
        if plan.weights:
            return _advanced(plan, state, now)
        return state.entered("CLOSING", now, weight=0)
    if elapsed < rules.max_seconds:
        return state
    found = evidence.pairs
    reason = (
        f"inconclusive after {elapsed:.0f} s of mirrored traffic: {found.pairs} of at least "
        f"{rules.min_pairs} pairs, {found.disagreements} of them disagree"
    )
    return roll_back(state, now, reason)


def _step(
    plan: ReleasePlan, state: RolloutState, observation: Observation, sides: Sides, now: float
) -> RolloutState:
    assert isinstance(plan, CanaryPlan)
    state, against = _compared(plan, state, sides)
    if against:
        return roll_back(state, now, against)
    if routed(observation.traffic) != state.traffic:  # the step begins when its weight is in force
        return replace(state, since=now, evidence=state.evidence.next_step())
    elapsed, seen = now - state.since, state.evidence.step
    enough = min(seen.champion.requests, seen.candidate.requests) >= plan.min_requests
    leaning = state.evidence.leaning(plan)
    if enough and not leaning and elapsed >= plan.step_min_seconds:
        return _advanced(plan, state, now)
    if elapsed < plan.step_max_seconds:
        return state
    missing = (
        "the evidence points against the candidate but proves nothing"
        if enough
        else f"each side has to answer {plan.min_requests} requests"
    )
    return _inconclusive(plan, state, now, f"after {elapsed:.0f} s at {state.weight} %: {missing}")


def _awaiting(
    plan: ReleasePlan, state: RolloutState, observation: Observation, sides: Sides, now: float
) -> RolloutState:
    assert isinstance(plan, PromotingPlan)
    state, against = _compared(plan, state, sides)
    if against:
        return roll_back(state, now, against)
    if state.approved_by:
        return _advanced(plan, state, now)
    if now - state.since >= plan.approval_seconds:
        return _paused(state, now, f"nobody approved within {plan.approval_seconds:g} s")
    return state


def _promoting(
    plan: ReleasePlan, state: RolloutState, observation: Observation, sides: Sides, now: float
) -> RolloutState:
    state, against = _compared(plan, state, sides)
    if against:
        return roll_back(state, now, against)
    promoted = routed(observation.traffic) == state.traffic
    return state.entered("BAKING", now, weight=state.weight) if promoted else state


def _baking(
    plan: ReleasePlan, state: RolloutState, observation: Observation, sides: Sides, now: float
) -> RolloutState:
    assert isinstance(plan, PromotingPlan)
    evidence = state.evidence.watched(sides)
    found = evidence.bake_findings(plan) if isinstance(plan, BlueGreenPlan) else []
    state, against = _judged(plan, replace(state, evidence=evidence), found)
    if against:
        return roll_back(state, now, against)
    elapsed = now - state.since
    if elapsed < plan.bake_seconds:
        return state
    answered = evidence.step.candidate.requests
    if isinstance(plan, BlueGreenPlan) and answered < plan.min_requests:
        if elapsed < plan.bake_max_seconds:
            return state
        missing = f"the candidate has to answer {plan.min_requests} requests, not {answered}"
        return _inconclusive(plan, state, now, f"after {elapsed:.0f} s at 100 %: {missing}")
    if plan.keep_seconds is None:
        return _succeeded(state, now)
    return state.entered("KEEPING", now, weight=100)


def _keeping(
    plan: ReleasePlan, state: RolloutState, observation: Observation, sides: Sides, now: float
) -> RolloutState:
    assert isinstance(plan, PromotingPlan)
    state, against = _judged(
        plan, replace(state, evidence=state.evidence.watched(sides)), findings=[]
    )
    if against:
        return roll_back(state, now, against)
    kept = now - state.since >= (plan.keep_seconds or 0)
    return state.entered("RETIRING", now, weight=100) if kept else state


def _advanced(plan: ReleasePlan, state: RolloutState, now: float) -> RolloutState:
    """Go on to the next weight, or to waiting for somebody who approves it."""
    assert isinstance(plan, PromotingPlan)
    weight, evidence = plan.next_weight(state.weight), state.evidence
    if weight == 100 and evidence.seen:
        evidence = replace(evidence, baseline=evidence.seen.champion)
    if state.state == "SHADOW":  # live requests are counted apart from mirrored ones
        evidence = evidence.after_gap()
    state = replace(state, evidence=evidence)
    if plan.needs_approval(state.weight, weight) and not state.approved_by:
        return state.entered("AWAIT_APPROVAL", now, weight=state.weight)
    following: State = "PROMOTING" if weight == 100 else "STEP"
    return state.entered(following, now, weight=weight)


def _succeeded(state: RolloutState, now: float, but: str = "") -> RolloutState:
    return state.entered("SUCCEEDED", now, weight=100, reason=f"all steps passed{but}")


def _paused(state: RolloutState, now: float, reason: str) -> RolloutState:
    return state.entered("PAUSED", now, weight=state.weight, reason=reason)


def _inconclusive(
    plan: PromotingPlan, state: RolloutState, now: float, missing: str
) -> RolloutState:
    reason = f"inconclusive {missing}"
    if plan.on_inconclusive == "rollback":
        return roll_back(state, now, reason)
    return _paused(state, now, reason)


def _blind(plan: ReleasePlan, state: RolloutState, now: float) -> RolloutState:
    """Hold while counters are missing, for as long as the plan allows."""
    since = now if state.outage_since is None else state.outage_since
    if now - since < plan.outage_seconds:
        return replace(state, outage_since=since)
    reason = f"no counters for {now - since:.0f} s"
    if plan.on_metric_outage == "pause" and state.state != "SHADOW":
        return _paused(state, now, reason)
    return roll_back(state, now, reason)


def _compared(
    plan: ReleasePlan, state: RolloutState, sides: Sides
) -> tuple[RolloutState, str | None]:
    evidence = state.evidence.updated(plan, sides)
    return _judged(plan, replace(state, evidence=evidence), evidence.findings(plan))


def _judged(
    plan: ReleasePlan, state: RolloutState, findings: Findings
) -> tuple[RolloutState, str | None]:
    """Return why the candidate must go, if it must, and note what only would have said so."""
    dry = {test: reason for test, reason in findings if test in plan.dry_run_metrics}
    acting = [reason for test, reason in findings if test not in plan.dry_run_metrics]
    state = replace(state, dry_run={**state.dry_run, **dry})
    return state, state.evidence.broken_guardrail(plan) or next(iter(acting), None)


_UNWATCHED: dict[str, Callable[..., RolloutState]] = {
    "PENDING": _pending,
    "CLOSING": _closing,
    "RETIRING": _retiring,
    "ROLLING_BACK": _rolling_back,
}
_WATCHED: dict[str, Callable[..., RolloutState]] = {
    "SMOKE": _smoke,
    "SHADOW": _shadow,
    "STEP": _step,
    "AWAIT_APPROVAL": _awaiting,
    "PROMOTING": _promoting,
    "BAKING": _baking,
    "KEEPING": _keeping,
}
