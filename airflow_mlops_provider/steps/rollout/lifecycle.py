"""How the driver begins, resumes and decides the release of one model version."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.rollout.evidence import Evidence
from airflow_mlops_provider.steps.rollout.machine import decide, roll_back
from airflow_mlops_provider.steps.rollout.metrics import check_counters
from airflow_mlops_provider.steps.rollout.plan import BlueGreenPlan, CanaryPlan, ShadowPlan
from airflow_mlops_provider.steps.rollout.state import RolloutState, State, routed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlops_provider.steps.rollout.kinds import Observation
    from airflow_mlops_provider.steps.rollout.release import ReleasePlan


class Release:
    """The kinds ``canary``, ``shadow`` and ``blue_green``: one machine, three plans."""

    state = RolloutState
    decide = staticmethod(decide)
    roll_back = staticmethod(roll_back)

    def plan(self, payload: Mapping[str, Any]) -> ReleasePlan:
        """Rebuild a plan from its JSON."""
        return _PLANS[payload.get("kind", "canary")].from_xcom(payload)

    def needs(self, plan: ReleasePlan) -> frozenset[str]:
        """Return the capabilities that the target must have."""
        needed = {"traffic", "observe", "lease"}
        needed |= {"mirror", "pairs"} if plan.shadow else set()
        return frozenset(needed | {"shield"} if plan.shields else needed)

    def fresh(self, plan: ReleasePlan, observation: Observation, now: float) -> RolloutState:
        """Return the first state, against the one deployment that serves all traffic."""
        traffic = routed(observation.traffic)
        if len(traffic) != 1:
            raise ParameterError(
                f"A rollout needs one deployment that serves all traffic of "
                f"{observation.endpoint!r}, found {traffic or 'none'}. Deploy a champion first: "
                "DeployModelOperator(traffic=100)."
            )
        (champion,) = traffic
        check_counters(plan.own_metrics, _counters(observation, champion))
        state = RolloutState(
            kind=plan.kind,
            candidate=plan.candidate,
            model_uri=plan.model_uri,
            champion=champion,
            since=now,
            shield=plan.shields,
            evidence=Evidence.begin(plan),
        )
        if champion != plan.candidate:
            return state
        return replace(
            state, state="SUCCEEDED", weight=100, reason=f"{champion} already serves all traffic"
        )

    def resumed(
        self, plan: ReleasePlan, state: RolloutState, observation: Observation, now: float
    ) -> RolloutState:
        """Go on from the weight that is in force, which a person may have changed meanwhile."""
        weight = observation.traffic.get(state.candidate, 0)
        if routed(observation.traffic) != replace(state, weight=weight).traffic:
            raise ParameterError(
                f"Endpoint {observation.endpoint!r} sends traffic to "
                f"{sorted(routed(observation.traffic))}, but the paused rollout is between "
                f"{state.champion!r} and {state.candidate!r}. Set the traffic back to these two, "
                "or roll out a new version."
            )
        if 0 < weight < 100 and plan.weights == (100,):
            raise ParameterError(
                f"A {plan.kind} rollout knows no shares, but {state.candidate!r} has {weight} % of "
                f"{observation.endpoint!r}. Set it to 0 or 100 first."
            )
        step: State = "BAKING" if weight == 100 else "STEP" if weight else "PENDING"
        return replace(
            state.entered(step, now, weight=weight),
            previous_weight=weight,
            outage_since=None,
            evidence=state.evidence.after_gap(),
        )


def _counters(observation: Observation, name: str) -> Mapping[str, Any] | None:
    return None if observation.counters is None else observation.counters.get(name)


_PLANS: dict[str, type[ReleasePlan]] = {
    "canary": CanaryPlan,
    "shadow": ShadowPlan,
    "blue_green": BlueGreenPlan,
}
RELEASE = Release()
