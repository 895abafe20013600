"""Drive a canary rollout: observe, decide, write what is wanted, verify.

:func:`tick` keeps the state on the serving host and writes each decision there before it moves
traffic, so that whoever ticks next (a retry, a cleared task, another triggerer) goes on from the
same place, wherever the last one stopped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow_mlops_provider.exceptions import (
    MlopsError,
    ParameterError,
    PermanentError,
    RegistryConflictError,
    ServiceError,
)
from airflow_mlops_provider.steps.rollout.evidence import Evidence
from airflow_mlops_provider.steps.rollout.machine import Observation, decide, roll_back
from airflow_mlops_provider.steps.rollout.sequential import RateTest
from airflow_mlops_provider.steps.rollout.state import RolloutState, State, is_running, routed

if TYPE_CHECKING:
    from airflow_mlops_provider.records import EndpointRef
    from airflow_mlops_provider.steps.rollout.plan import CanaryPlan

REQUIRED_CAPABILITIES = frozenset({"traffic", "observe", "lease"})


class TrafficTarget(Protocol):
    """The part of a serving target's client that a rollout needs."""

    def capabilities(self) -> frozenset[str]:
        """Name what the target can do."""

    def get_state(self, endpoint: str) -> EndpointRef:
        """Return the deployments of an endpoint and its traffic."""

    def create_deployment(
        self, endpoint: str, name: str, model_uri: str, *, timeout: float = 180
    ) -> EndpointRef:
        """Start a deployment without traffic, unless it runs, and wait until it is ready."""

    def set_traffic(
        self, endpoint: str, traffic: dict[str, int], *, generation: int
    ) -> EndpointRef:
        """Set the traffic, or raise RegistryConflictError if ``generation`` is stale."""

    def observe(self, endpoint: str) -> dict[str, dict[str, Any]]:
        """Return cumulative counters by deployment."""

    def get_rollout(self, endpoint: str) -> dict[str, Any] | None:
        """Return the document that was put last."""

    def put_rollout(
        self,
        endpoint: str,
        document: dict[str, Any],
        *,
        lease_seconds: float,
        rollback_traffic: dict[str, int],
    ) -> None:
        """Keep a document; roll back if it is not renewed within the lease."""


def begin(target: TrafficTarget, endpoint: str, plan: CanaryPlan, now: float) -> RolloutState:
    """Start the rollout of ``plan.candidate``, or take up the one it already has.

    A running or ended rollout of the same candidate is returned as it is; one that was paused
    goes on at the weight it holds, and one whose roll-back failed tries that again.

    Args:
        target: The serving target.
        endpoint: Name of the endpoint.
        plan: What to roll out, and how.
        now: Seconds since the epoch.

    Raises:
        ParameterError: the target lacks a capability, or no champion serves all traffic.
        RegistryConflictError: another candidate is being rolled out.
    """
    _require_capabilities(target)
    ref = target.get_state(endpoint)
    document = target.get_rollout(endpoint)
    known = RolloutState.from_document(document) if document else None
    if known and (known.candidate, known.model_uri) == (plan.candidate, plan.model_uri):
        if known.state != "SUCCEEDED" or routed(ref.traffic) == known.traffic:
            return _taken_up(target, endpoint, plan, known, ref, now)
    elif known and (is_running(document) or known.state == "PAUSED"):
        raise RegistryConflictError(
            f"Endpoint {endpoint!r} is in a rollout of {known.candidate!r} ({known.state}). Wait "
            f"for it, or end it by deploying {known.champion!r} with traffic 100."
        )
    state = _fresh(plan, ref, now)
    if not state.ended:
        _keep(target, endpoint, plan, state)
    return state


def tick(target: TrafficTarget, endpoint: str, plan: CanaryPlan, now: float) -> RolloutState:
    """Do one round of a rollout; safe to repeat, to interrupt and to run twice at once.

    Raises:
        ServiceError: the host does not answer; tick again.
        PermanentError: as for :func:`begin`.
    """
    document = target.get_rollout(endpoint)
    if document is None or document.get("candidate") != plan.candidate:
        state = begin(target, endpoint, plan, now)
    else:
        state = RolloutState.from_document(document)
    if state.ended:
        return state
    ref = target.get_state(endpoint)
    observation = Observation(
        traffic=ref.traffic,
        deployments=ref.deployments,
        counters=_counters(target, endpoint),
    )
    if state.state != "ROLLING_BACK":  # which is judged only after it was tried
        state = decide(plan, state, observation, now)
    _keep(target, endpoint, plan, state)
    written = _write(target, ref, plan, state, now)
    if written.state in ("PENDING", "PROMOTING", "ROLLING_BACK"):
        ref = target.get_state(endpoint)
        observation = replace(observation, traffic=ref.traffic, deployments=ref.deployments)
        written = decide(plan, written, observation, now)
    if written != state:
        _keep(target, endpoint, plan, written)
    return written


def abort(
    target: TrafficTarget, endpoint: str, plan: CanaryPlan, reason: str, now: float
) -> RolloutState | None:
    """Roll back a running rollout of ``plan.candidate``; do nothing when there is none."""
    document = target.get_rollout(endpoint)
    if document is None or document.get("candidate") != plan.candidate or not is_running(document):
        return None
    state = RolloutState.from_document(document)
    _keep(target, endpoint, plan, roll_back(state, now, reason))
    return tick(target, endpoint, plan, now)


class Driver:
    """Ticks a rollout on through outages of its host, as long as its plan allows."""

    def __init__(self, target: TrafficTarget, endpoint: str, plan: CanaryPlan) -> None:
        self.target, self.endpoint, self.plan = target, endpoint, plan
        self.failing_since: float | None = None

    def tick(self, now: float) -> RolloutState | None:
        """Tick once; None means that the host did not answer and patience is left.

        Raises:
            ServiceError: the host has not answered for ``plan.outage_seconds``. It rolls back
                by itself when the lease runs out.
            PermanentError: as for :func:`begin`.
        """
        try:
            state = tick(self.target, self.endpoint, self.plan, now)
        except ServiceError:
            self.failing_since = now if self.failing_since is None else self.failing_since
            if now - self.failing_since >= self.plan.outage_seconds:
                raise
            return None
        self.failing_since = None
        return state


def _taken_up(
    target: TrafficTarget,
    endpoint: str,
    plan: CanaryPlan,
    state: RolloutState,
    ref: EndpointRef,
    now: float,
) -> RolloutState:
    if state.state == "ROLLBACK_FAILED":
        state = replace(state, state="ROLLING_BACK", since=now)
    elif state.state == "PAUSED":
        state = _resumed(state, ref, now)
    else:
        return state
    _keep(target, endpoint, plan, state)
    return state


def _resumed(state: RolloutState, ref: EndpointRef, now: float) -> RolloutState:
    """Go on from the weight that is in force, which a person may have changed meanwhile."""
    weight = ref.traffic.get(state.candidate, 0)
    if routed(ref.traffic) != replace(state, weight=weight).traffic:
        raise ParameterError(
            f"Endpoint {ref.endpoint!r} sends traffic to {sorted(routed(ref.traffic))}, but the "
            f"paused rollout is between {state.champion!r} and {state.candidate!r}. Set the "
            "traffic back to these two, or roll out a new version."
        )
    step: State = "BAKING" if weight == 100 else "STEP" if weight else "PENDING"
    return replace(
        state.entered(step, now, weight=weight),
        previous_weight=weight,
        outage_since=None,
        evidence=state.evidence.after_gap(),
    )


def _fresh(plan: CanaryPlan, ref: EndpointRef, now: float) -> RolloutState:
    traffic = routed(ref.traffic)
    if len(traffic) != 1:
        raise ParameterError(
            f"A canary needs one deployment that serves all traffic of {ref.endpoint!r}, found "
            f"{traffic or 'none'}. Deploy a champion first: DeployModelOperator(traffic=100)."
        )
    (champion,) = traffic
    state = RolloutState(
        candidate=plan.candidate,
        model_uri=plan.model_uri,
        champion=champion,
        since=now,
        evidence=Evidence(errors=RateTest(margin=plan.margin)),
    )
    if champion != plan.candidate:
        return state
    return replace(
        state, state="SUCCEEDED", weight=100, reason=f"{champion} already serves all traffic"
    )


def _require_capabilities(target: TrafficTarget) -> None:
    missing = REQUIRED_CAPABILITIES - target.capabilities()
    if missing:
        raise ParameterError(
            f"The serving target cannot do {', '.join(sorted(missing))}, which a canary needs. "
            "Use another target, or deploy with DeployModelOperator(traffic=100)."
        )


def _counters(target: TrafficTarget, endpoint: str) -> dict[str, dict[str, Any]] | None:
    try:
        return target.observe(endpoint)
    except ServiceError:
        return None


def _write(
    target: TrafficTarget, ref: EndpointRef, plan: CanaryPlan, state: RolloutState, now: float
) -> RolloutState:
    """Make the endpoint what ``state`` wants; what cannot be written now is left to later ticks."""
    if state.state == "PENDING":
        return _create_candidate(target, ref, plan, state, now)
    if state.ended or routed(ref.traffic) == state.traffic:
        return state
    try:
        target.set_traffic(ref.endpoint, state.traffic, generation=ref.generation)
    except RegistryConflictError:
        pass  # somebody moved first: the next tick looks again
    except MlopsError:
        if state.state != "ROLLING_BACK":  # which has a deadline of its own
            raise
    return state


def _create_candidate(
    target: TrafficTarget, ref: EndpointRef, plan: CanaryPlan, state: RolloutState, now: float
) -> RolloutState:
    try:
        target.create_deployment(
            ref.endpoint, state.candidate, state.model_uri, timeout=plan.ready_timeout_seconds
        )
    except PermanentError as error:
        return roll_back(state, now, str(error))
    return state


def _keep(target: TrafficTarget, endpoint: str, plan: CanaryPlan, state: RolloutState) -> None:
    loading = plan.ready_timeout_seconds if state.state == "PENDING" else 0
    target.put_rollout(
        endpoint,
        state.to_xcom(),
        lease_seconds=plan.lease_seconds + loading,
        rollback_traffic={state.champion: 100},
    )
