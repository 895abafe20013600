"""What a release reads out of an observation: the counts of champion and candidate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.steps.rollout.counts import Counts, Sides
from airflow_mlops_provider.steps.rollout.metrics import SLOW, slow_bound
from airflow_mlops_provider.steps.rollout.pairs import Pairs

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.kinds import Observation
    from airflow_mlops_provider.steps.rollout.release import ReleasePlan
    from airflow_mlops_provider.steps.rollout.state import RolloutState


def knowing_slow(plan: ReleasePlan, state: RolloutState, observation: Observation) -> RolloutState:
    """Fix what counts as slow, once the champion has answered enough to know."""
    asked = any(spec.name == SLOW for spec in plan.own_metrics)
    counters = (observation.counters or {}).get(state.champion)
    if not asked or state.evidence.slow_above or counters is None:
        return state
    try:
        bound = slow_bound(counters)
    except (KeyError, TypeError):
        return state
    return replace(state, evidence=replace(state.evidence, slow_above=bound))


def read_sides(plan: ReleasePlan, state: RolloutState, observation: Observation) -> Sides | None:
    """Return the counts of champion and candidate; None when any is missing or no number."""
    counters, slow = observation.counters or {}, state.evidence.slow_above
    mirrored = state.state == "SHADOW" or (state.state == "SMOKE" and plan.shadow is not None)
    try:
        champion = Counts.read(counters[state.champion], plan.own_metrics, slow)
        candidate = counters[state.candidate]
        if mirrored:
            return Sides(champion=champion, candidate=Counts.read_shadow(candidate))
        return Sides(champion=champion, candidate=Counts.read(candidate, plan.own_metrics, slow))
    except (KeyError, TypeError, ValueError):
        return None


def read_pairs(state: RolloutState, observation: Observation) -> Pairs | None:
    """Return the counts of mirrored requests; None when any is missing or no number."""
    if observation.pairs is None:
        return None
    try:
        counted: Any = observation.pairs.get(state.candidate)
        return Pairs.read(counted) if counted else Pairs()
    except (KeyError, TypeError, ValueError):
        return None
