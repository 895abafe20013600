"""Drive a rollout: observe, decide, write what is wanted, verify.

:func:`tick` keeps the state on the serving target and writes each decision there before it moves
traffic, so that whoever ticks next (a retry, a cleared task, another triggerer) goes on from the
same place, wherever the last one stopped. What is decided is up to the plan's kind: see
``kinds.py``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from airflow_mlops_provider.exceptions import (
    MlopsError,
    ParameterError,
    PermanentError,
    RegistryConflictError,
    ServiceError,
)
from airflow_mlops_provider.steps.rollout.kinds import Observation, kind_of, read_state
from airflow_mlops_provider.steps.rollout.state import is_running, routed

if TYPE_CHECKING:
    from airflow_mlops_provider.records import EndpointRef
    from airflow_mlops_provider.steps.rollout.kinds import DrivenPlan, DrivenState
    from airflow_mlops_provider.steps.rollout.target import MirrorTarget, TrafficTarget

_ATTEMPTS = 3
_VERIFIED = frozenset({"PENDING", "PROMOTING", "RETIRING", "CLOSING", "ROLLING_BACK"})
"""States that a successful write may end, so they are judged again after it."""


def begin(target: TrafficTarget, endpoint: str, plan: DrivenPlan, now: float) -> DrivenState:
    """Start the rollout of ``plan``, or take up the one that it already has.

    A running or ended rollout of the same plan's identity is returned as it is; one that was
    paused goes on at the traffic it holds, and one whose roll-back failed tries that again.

    Args:
        target: The serving target.
        endpoint: Name of the endpoint.
        plan: What to roll out, and how.
        now: Seconds since the epoch.

    Raises:
        ParameterError: the target lacks a capability, or no champion serves all traffic.
        RegistryConflictError: another rollout has the endpoint.
    """
    _require_capabilities(target, plan)
    ref = target.get_state(endpoint)
    document = target.get_rollout(endpoint)
    known = read_state(document) if document else None
    if known and known.identity == plan.identity:
        if known.state != "SUCCEEDED" or routed(ref.traffic) == known.traffic:
            return _taken_up(target, endpoint, plan, known, ref, now)
    elif known and (is_running(document) or known.state == "PAUSED"):
        raise RegistryConflictError(
            f"Endpoint {endpoint!r} is in a rollout of {known.candidate!r} ({known.state}). Wait "
            f"for it, or end it by deploying {known.champion!r} with traffic 100."
        )
    state = kind_of(plan.kind).fresh(plan, _observed(target, ref, plan), now)
    if not state.ended:
        _keep(target, endpoint, plan, state)
    return state


def tick(target: TrafficTarget, endpoint: str, plan: DrivenPlan, now: float) -> DrivenState:
    """Do one round of a rollout; safe to repeat, to interrupt and to run twice at once.

    Raises:
        ServiceError: the host does not answer; tick again.
        PermanentError: as for :func:`begin`.
    """
    state = _mine(target.get_rollout(endpoint), plan) or begin(target, endpoint, plan, now)
    if state.ended:
        return state
    kind, ref = kind_of(plan.kind), target.get_state(endpoint)
    observation = _observed(target, ref, plan, pairs=state.compares_pairs)
    if state.state != "ROLLING_BACK":  # which is judged only after it was tried
        state = kind.decide(plan, state, observation, now)
    state = state.noted(now)
    if state.ended:  # before it is kept, after which nobody would come back to do it
        _stop_mirroring(target, ref, state)
    _keep(target, endpoint, plan, state)
    written = _write(target, ref, plan, state, now)
    if written.state in _VERIFIED:
        ref = target.get_state(endpoint)
        observation = replace(
            observation,
            traffic=ref.traffic,
            mirror_traffic=ref.mirror_traffic,
            deployments=ref.deployments,
        )
        written = kind.decide(plan, written, observation, now)
    if written.state != state.state:
        written = written.noted(now)
    if written != state:
        _keep(target, endpoint, plan, written)
    return written


def abort(
    target: TrafficTarget, endpoint: str, plan: DrivenPlan, reason: str, now: float
) -> DrivenState | None:
    """Roll back a running rollout of ``plan``; do nothing when there is none."""
    document = target.get_rollout(endpoint)
    state = _mine(document, plan)
    if state is None or not is_running(document):
        return None
    _keep(target, endpoint, plan, kind_of(plan.kind).roll_back(state, now, reason))
    return tick(target, endpoint, plan, now)


def approve(target: TrafficTarget, endpoint: str, by: str) -> bool:
    """Let a rollout that awaits approval go on at its next tick.

    A tick that runs meanwhile may write over it, so repeat this until it returns False.

    Args:
        target: The serving target.
        endpoint: Name of the endpoint.
        by: Who approves; kept with the evidence.

    Returns:
        Whether the rollout still awaits its approval.
    """
    document = target.get_rollout(endpoint)
    if document is None or document.get("state") != "AWAIT_APPROVAL":
        return False
    if not document.get("approved_by"):
        target.put_rollout(
            endpoint,
            {**document, "approved_by": by},
            lease_seconds=document["lease_seconds"],
            rollback_traffic=read_state(document).fallback,
        )
    return True


class Driver:
    """Ticks a rollout on through outages of its host, as long as its plan allows."""

    def __init__(self, target: TrafficTarget, endpoint: str, plan: DrivenPlan) -> None:
        self.target, self.endpoint, self.plan = target, endpoint, plan
        self.failing_since: float | None = None

    def tick(self, now: float) -> DrivenState | None:
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


def _mine(document: dict[str, Any] | None, plan: DrivenPlan) -> DrivenState | None:
    state = read_state(document) if document else None
    return state if state and state.identity == plan.identity else None


def _taken_up(
    target: TrafficTarget,
    endpoint: str,
    plan: DrivenPlan,
    state: DrivenState,
    ref: EndpointRef,
    now: float,
) -> DrivenState:
    if state.state == "ROLLBACK_FAILED":
        state = replace(state, state="ROLLING_BACK", since=now)
    elif state.state == "PAUSED":
        state = kind_of(plan.kind).resumed(plan, state, _observed(target, ref, plan), now)
    else:
        return state
    _keep(target, endpoint, plan, state)
    return state


def _require_capabilities(target: TrafficTarget, plan: DrivenPlan) -> None:
    needed = kind_of(plan.kind).needs(plan) - ({"lease"} if plan.lease_seconds is None else set())
    missing = needed - target.capabilities()
    if missing:
        raise ParameterError(
            f"The serving target cannot do {', '.join(sorted(missing))}, which this rollout "
            f"({plan.kind}) needs. Use another target or another kind of rollout, or deploy with "
            "DeployModelOperator(traffic=100)."
        )


def _observed(
    target: TrafficTarget, ref: EndpointRef, plan: DrivenPlan, *, pairs: bool = False
) -> Observation:
    counters = found = None
    with suppress(ServiceError):
        counters = target.observe(ref.endpoint)
        if pairs and plan.pair_tolerance is not None:
            found = cast("MirrorTarget", target).pairs(ref.endpoint, tolerance=plan.pair_tolerance)
    return Observation(
        endpoint=ref.endpoint,
        traffic=ref.traffic,
        mirror_traffic=ref.mirror_traffic,
        sticky=ref.sticky,
        deployments=ref.deployments,
        counters=counters,
        pairs=found,
    )


def _write(
    target: TrafficTarget, ref: EndpointRef, plan: DrivenPlan, state: DrivenState, now: float
) -> DrivenState:
    """Make the endpoint what ``state`` wants; what cannot be written now is left to later ticks."""
    if state.state == "PENDING":
        return _create_deployments(target, ref, plan, state, now)
    if state.ended:
        return state
    for name in state.superfluous & ref.deployments.keys():
        with suppress(PermanentError):  # the machine gives up on it
            target.delete_deployment(ref.endpoint, name)
    if _is_as_wanted(ref, state):
        return state
    mirror = state.mirror_traffic
    more = state.settings if mirror is None else {**state.settings, "mirror_traffic": mirror}
    try:
        traffic = state.traffic if state.moves_traffic else dict(ref.traffic)
        target.set_traffic(ref.endpoint, traffic, generation=ref.generation, **more)
        return state.settled()
    except RegistryConflictError:
        pass  # somebody moved first: the next tick looks again
    except MlopsError:
        if state.state != "ROLLING_BACK":  # which has a deadline of its own
            raise
    return state


def _stop_mirroring(target: TrafficTarget, ref: EndpointRef, state: DrivenState) -> None:
    """Take the mirror away from a rollout that ended with somebody else's traffic."""
    if state.mirror_traffic != {}:
        return
    for _ in range(_ATTEMPTS):
        if not routed(ref.mirror_traffic):
            return
        with suppress(RegistryConflictError):
            target.set_traffic(
                ref.endpoint, dict(ref.traffic), generation=ref.generation, mirror_traffic={}
            )
        ref = target.get_state(ref.endpoint)


def _is_as_wanted(ref: EndpointRef, state: DrivenState) -> bool:
    mirror = state.mirror_traffic
    mirrored = mirror is None or routed(ref.mirror_traffic) == mirror
    return mirrored and (not state.moves_traffic or routed(ref.traffic) == state.traffic)


def _create_deployments(
    target: TrafficTarget, ref: EndpointRef, plan: DrivenPlan, state: DrivenState, now: float
) -> DrivenState:
    more: dict[str, Any] = {} if plan.options is None else {"options": plan.options}
    timeout = plan.ready_timeout_seconds
    try:
        for name, model_uri in state.deployments.items():
            target.create_deployment(ref.endpoint, name, model_uri, timeout=timeout, **more)
    except PermanentError as error:
        return kind_of(plan.kind).roll_back(state, now, str(error))
    return state


def _keep(target: TrafficTarget, endpoint: str, plan: DrivenPlan, state: DrivenState) -> None:
    loading = plan.ready_timeout_seconds if state.state == "PENDING" else 0
    lease = None if plan.lease_seconds is None else plan.lease_seconds + loading
    document = {**state.to_xcom(), "lease_seconds": lease}
    if state.state == "AWAIT_APPROVAL":  # which may have come since the tick began
        latest = target.get_rollout(endpoint) or {}
        if latest.get("state") == "AWAIT_APPROVAL":
            document["approved_by"] = latest.get("approved_by", "")
    target.put_rollout(endpoint, document, lease_seconds=lease, rollback_traffic=state.fallback)
