"""A bandit as a kind of rollout: what the driver does between looks, and what a look changes.

::

    PENDING -> STEP (weights of the looks) -> PROMOTING -> SUCCEEDED     (another arm is the best)
                 └-> ROLLING_BACK -> ROLLED_BACK     (the champion is, nothing is clear, or a guard)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.experiment.ab_test import MAX_FAILED_LOOKS
from airflow_mlops_provider.steps.experiment.bandit import (
    Rewards,
    probabilities_best,
    seed_of,
    whole_percents,
)
from airflow_mlops_provider.steps.experiment.bandit_plan import BanditPlan
from airflow_mlops_provider.steps.experiment.bandit_state import BanditState
from airflow_mlops_provider.steps.experiment.units import mature_units
from airflow_mlops_provider.steps.rollout.evidence import GUARDRAIL_REQUESTS
from airflow_mlops_provider.steps.rollout.state import routed

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.kinds import Observation


class Bandit:
    """The kind ``bandit``."""

    state = BanditState

    def plan(self, payload: Mapping[str, Any]) -> BanditPlan:
        """Rebuild a plan from its JSON."""
        return BanditPlan.from_xcom(payload)

    def needs(self, plan: BanditPlan) -> frozenset[str]:
        """Return the capabilities that the target must have."""
        return frozenset({"traffic", "observe", "lease"})

    def fresh(self, plan: BanditPlan, observation: Observation, now: float) -> BanditState:
        """Return the first state, with the traffic where it is.

        Raises:
            ParameterError: an arm is not deployed, or none of them serves all traffic.
        """
        missing = [name for name in plan.arms if name not in observation.deployments]
        if missing:
            raise ParameterError.of(
                "deployments",
                "BanditRolloutOperator",
                f"deployed on {observation.endpoint!r}, which has "
                f"{sorted(observation.deployments)}; deploy the others with traffic=0 first",
                missing,
            )
        traffic = routed(observation.traffic)
        if len(traffic) != 1 or not set(traffic) <= set(plan.arms):
            raise ParameterError(
                f"A bandit needs one of {list(plan.arms)} to serve all traffic of "
                f"{observation.endpoint!r}, found {traffic or 'none'}. Deploy a champion first: "
                "DeployModelOperator(traffic=100)."
            )
        (champion,) = traffic
        return BanditState(
            champion=champion,
            candidate=next(name for name in plan.arms if name != champion),
            arms=plan.arms,
            models={name: observation.deployments[name] for name in plan.arms},
            weights=traffic,
            previous_weights=traffic,
            since=now,
        )

    def resumed(
        self, plan: BanditPlan, state: BanditState, observation: Observation, now: float
    ) -> BanditState:
        """Begin to count anew from the traffic that is in force.

        Raises:
            ParameterError: it goes elsewhere than to the arms.
        """
        traffic = routed(observation.traffic)
        if not set(traffic) <= set(plan.arms):
            raise ParameterError(
                f"Endpoint {observation.endpoint!r} sends traffic to {sorted(traffic)}, but the "
                f"paused bandit plays {list(plan.arms)}. Set the traffic back to these."
            )
        going = state.moved("STEP", traffic, now, "")
        return replace(going, previous_weights=traffic, started=None, look_due=None, base=None)

    def decide(
        self, plan: BanditPlan, state: BanditState, observation: Observation, now: float
    ) -> BanditState:
        """Guard the arms, and say when a look is due."""
        if state.state == "PENDING":
            equal = whole_percents(dict.fromkeys(plan.arms, 1.0), plan.min_weight)
            return state.moved("STEP", equal, now, "")
        actual = routed(observation.traffic)
        if state.state == "ROLLING_BACK":
            return _rolling_back(plan, state, actual, now)
        if actual not in (state.traffic, routed(state.previous_weights)):
            reason = f"somebody else set the traffic to {dict(observation.traffic)}"
            return replace(state, state="PAUSED", since=now, reason=reason, looking=False)
        if any(observation.deployments.get(name) != uri for name, uri in state.models.items()):
            return self.roll_back(state, now, "a deployment is gone or was replaced")
        if state.state == "PROMOTING":
            done = actual == state.traffic
            return replace(state, state="SUCCEEDED", since=now) if done else state
        return self._playing(plan, state, observation, now)

    def roll_back(self, state: BanditState, now: float, reason: str) -> BanditState:
        """Return the state that wants all traffic back on the champion."""
        back = state.moved("ROLLING_BACK", state.fallback, now, reason)
        return replace(back, finding="stopped")

    def judged(
        self,
        plan: BanditPlan,
        state: BanditState,
        exposures: pd.DataFrame,
        outcomes: pd.DataFrame,
        now: float,
    ) -> BanditState:
        """Return the state that follows from the data of a look."""
        rewards = _rewards(plan, state, exposures, outcomes, now)
        chances = probabilities_best(
            rewards,
            reward=plan.reward,
            direction=plan.direction,
            seed=seed_of(plan.seed, state.looks),
        )
        best = max(chances, key=chances.__getitem__)
        enough = min(each.n for each in rewards.values()) >= plan.min_units
        clear = enough and chances[best] >= plan.stop_at
        state = replace(
            state,
            looks=state.looks + 1,
            failed_looks=0,
            reason="",
            best=best,
            streak=(state.streak if best == state.best else 0) + 1 if clear else 0,
            probabilities=chances,
            rewards={name: each.summary() for name, each in rewards.items()},
        )
        return _played(plan, state, now, enough=enough)

    def missed(self, plan: BanditPlan, state: BanditState, why: str, now: float) -> BanditState:
        """Return the state that follows from a look that found nothing to read."""
        failed = state.failed_looks + 1
        reason = f"{failed} looks in a row could not read their data: {why}"
        if failed >= MAX_FAILED_LOOKS:
            return self.roll_back(state, now, reason)
        due = now + plan.look_seconds
        return replace(state, looking=False, look_due=due, failed_looks=failed, reason=reason)

    def _playing(
        self, plan: BanditPlan, state: BanditState, observation: Observation, now: float
    ) -> BanditState:
        counts = _counts(state, observation)
        if counts is None:
            since = now if state.outage_since is None else state.outage_since
            if now - since >= plan.outage_seconds:
                return self.roll_back(state, now, f"no counters for {now - since:.0f} s")
            return replace(state, outage_since=since)
        state = replace(state, outage_since=None, base=state.base or counts)
        failing = _failing(plan, state, counts)
        if failing:
            return self.roll_back(state, now, failing)
        if state.started is None:
            begun = routed(observation.traffic) == state.traffic
            return replace(state, started=now, look_due=now + plan.look_seconds) if begun else state
        due = state.look_due is not None and now >= state.look_due
        return replace(state, looking=True) if due else state


BANDIT = Bandit()


def _played(plan: BanditPlan, state: BanditState, now: float, *, enough: bool) -> BanditState:
    chance = state.probabilities[state.best]
    told = f"{state.best} is the best with posterior probability {chance:.3g}"
    if state.streak >= plan.consecutive:
        state = replace(state, finding="best")
        back = state.best == state.champion
        return state.moved("ROLLING_BACK" if back else "PROMOTING", {state.best: 100}, now, told)
    assert state.started is not None  # looks are taken only once it is
    elapsed = now - state.started
    if elapsed >= plan.max_seconds:
        reason = f"nothing was clear after {elapsed:.0f} s: {told}"
        return replace(
            state.moved("ROLLING_BACK", state.fallback, now, reason), finding="undecided"
        )
    due = now + min(plan.look_seconds, plan.max_seconds - elapsed)
    weights = whole_percents(state.probabilities, plan.min_weight) if enough else state.weights
    return replace(
        state, looking=False, look_due=due, weights=weights, previous_weights=state.weights
    )


def _rewards(
    plan: BanditPlan,
    state: BanditState,
    exposures: pd.DataFrame,
    outcomes: pd.DataFrame,
    now: float,
) -> dict[str, Rewards]:
    units, _ = mature_units(
        exposures,
        outcomes,
        mature_before=now - plan.label_delay_seconds,
        unit="request",
        metric="rate" if plan.reward == "bernoulli" else "mean",
        missing=plan.missing,
    )
    units = units.dropna(subset=["value"])
    ages = (pd.Timestamp(now, unit="s", tz="UTC") - units["ts"]).dt.total_seconds()
    mine = {name: units["deployment"] == name for name in state.arms}
    return {
        name: Rewards.of(
            units.loc[rows, "value"].to_numpy(), ages[rows].to_numpy(), plan.half_life_seconds
        )
        for name, rows in mine.items()
    }


def _rolling_back(
    plan: BanditPlan, state: BanditState, actual: Mapping[str, int], now: float
) -> BanditState:
    if actual == state.fallback:
        return replace(state, state="ROLLED_BACK", since=now)
    if now - state.since > plan.rollback_timeout_seconds:
        reason = f"{state.reason}; the traffic could not be set back to {state.champion!r}"
        return replace(state, state="ROLLBACK_FAILED", since=now, reason=reason)
    return state


def _counts(state: BanditState, observation: Observation) -> dict[str, tuple[int, int]] | None:
    counters = observation.counters or {}
    if not set(state.arms) <= set(counters):
        return None
    return {name: (counters[name]["requests"], counters[name]["errors"]) for name in state.arms}


def _failing(
    plan: BanditPlan, state: BanditState, counts: Mapping[str, tuple[int, int]]
) -> str | None:
    for name, (requests, errors) in counts.items():
        before = (state.base or {}).get(name, (0, 0))
        n, failed = requests - before[0], errors - before[1]
        if n >= GUARDRAIL_REQUESTS and failed > plan.max_error_rate * n:
            return (
                f"{failed} of {n} requests of {name} failed, more than max_error_rate "
                f"{plan.max_error_rate:.0%}"
            )
    return None
