"""Put registered model versions behind an endpoint, and take them away again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from airflow_mlops_provider.exceptions import ParameterError, RegistryConflictError
from airflow_mlops_provider.steps.rollout.state import is_running, routed
from airflow_mlops_provider.steps.rollout.target import TrafficTarget

if TYPE_CHECKING:
    from airflow_mlops_provider.records import EndpointRef, ModelVersionRef

_VERSION = re.compile(r"v(\d+)")


class DeploymentTarget(TrafficTarget, Protocol):
    """The part of a serving target's client that deployments need."""

    def create_endpoint(self, endpoint: str) -> EndpointRef:
        """Create an endpoint, unless it exists."""

    def delete_deployment(self, endpoint: str, name: str) -> None:
        """Delete a deployment, unless it is gone; refuse while it has traffic."""

    def clear_rollout(self, endpoint: str) -> None:
        """Forget the rollout document."""


def deployment_name(version: str) -> str:
    """Return the name under which a model version is deployed: ``v3`` for version 3."""
    return f"v{version}"


def deploy_model(
    client: DeploymentTarget,
    endpoint: str,
    version: ModelVersionRef,
    traffic: int | None = None,
    *,
    keep: int = 2,
    ready_timeout_seconds: float = 180,
    options: dict[str, Any] | None = None,
) -> EndpointRef:
    """Serve ``version`` on ``endpoint``, with all of its traffic or beside its champion.

    Doing it again changes nothing. Of deployments without traffic only the newest are kept.

    Args:
        client: The serving target.
        endpoint: Name of the endpoint; created if there is none.
        version: The model version to serve.
        traffic: 100 switches all traffic to it; 0 only makes it ready; None is 100 while the
            endpoint has no traffic yet, and 0 afterwards.
        keep: How many of the newest versions to keep whether or not they have traffic.
        ready_timeout_seconds: How long loading the model may take.
        options: How it is served, as the target names it; for the serving host see
            ``serving/options.py``.

    Returns:
        The endpoint as it is then.

    Raises:
        ParameterError: ``traffic`` is neither 0 nor 100, or ``keep`` is below 1.
        ModelError: the model cannot be loaded; traffic stays where it was.
        RegistryConflictError: a rollout is moving this endpoint's traffic, or the version is
            served with other options.
    """
    if traffic not in (None, 0, 100):
        constraint = "0 or 100 (CanaryRolloutOperator shares traffic)"
        raise ParameterError.of("traffic", "DeployModelOperator", constraint, traffic)
    if keep < 1:
        raise ParameterError.of("keep", "DeployModelOperator", "1 or more", keep)
    ref = client.create_endpoint(endpoint)
    if traffic is None:
        traffic = 0 if routed(ref.traffic) else 100
    if not traffic and "traffic" not in client.capabilities():
        constraint = "100: this target serves one deployment, with all requests"
        raise ParameterError.of("traffic", "DeployModelOperator", constraint, traffic)
    if traffic:
        refuse_during_rollout(client, endpoint)
    name = deployment_name(version.version)
    client.create_deployment(
        endpoint, name, version.model_uri, timeout=ready_timeout_seconds, options=options
    )
    if traffic:
        _switch(client, endpoint, name)
    _prune(client, endpoint, name, keep)
    return client.get_state(endpoint)


def undeploy_model(client: DeploymentTarget, endpoint: str, name: str) -> EndpointRef:
    """Delete a deployment, and with it the memory of the rollout it was the candidate of.

    Raises:
        ParameterError: it still has traffic.
        RegistryConflictError: it is being rolled out right now.
    """
    document = client.get_rollout(endpoint)
    mine = document is not None and document.get("candidate") == name
    if mine:
        refuse_during_rollout(client, endpoint)
    client.delete_deployment(endpoint, name)
    if mine:
        client.clear_rollout(endpoint)
    return client.get_state(endpoint)


def endpoint_problem(ref: EndpointRef, deployment: str | None = None) -> str | None:
    """Say what keeps an endpoint from serving, or None if it serves.

    Args:
        ref: The endpoint as its target sees it.
        deployment: A deployment that must have traffic; by default any will do.
    """
    serving = routed(ref.traffic)
    if not serving:
        return f"endpoint {ref.endpoint!r} has no traffic"
    if deployment is not None and deployment not in serving:
        return f"deployment {deployment!r} has no traffic, only {sorted(serving)}"
    gone = sorted(set(serving) - set(ref.deployments))
    return f"traffic goes to {gone}, which are not deployed" if gone else None


def refuse_during_rollout(client: DeploymentTarget, endpoint: str) -> None:
    """Raise RegistryConflictError while a rollout moves the traffic of an endpoint."""
    document: dict[str, Any] | None = client.get_rollout(endpoint)
    if document is not None and is_running(document):
        raise RegistryConflictError(
            f"Endpoint {endpoint!r} is in a rollout of {document.get('candidate')!r} "
            f"({document.get('state')}). Wait for it, or mark its task failed to roll it back."
        )


def _switch(client: DeploymentTarget, endpoint: str, name: str) -> None:
    """Send all traffic to ``name``, which also closes a paused rollout: a person decided."""
    try:
        _route(client, endpoint, name)
    except RegistryConflictError:
        _route(client, endpoint, name)
    document = client.get_rollout(endpoint)
    if document is not None and document.get("state") == "PAUSED":
        client.clear_rollout(endpoint)


def _route(client: DeploymentTarget, endpoint: str, name: str) -> None:
    ref = client.get_state(endpoint)
    if routed(ref.traffic) != {name: 100}:
        client.set_traffic(endpoint, {name: 100}, generation=ref.generation)


def _prune(client: DeploymentTarget, endpoint: str, name: str, keep: int) -> None:
    ref = client.get_state(endpoint)
    versions = {found: int(match[1]) for found in ref.deployments if (match := _parsed(found))}
    newest = sorted(versions, key=versions.__getitem__, reverse=True)[:keep]
    kept = {name, *newest, *routed(ref.traffic), *routed(ref.mirror_traffic)}
    kept |= _in_rollout(client, endpoint)
    for old in versions.keys() - kept:
        client.delete_deployment(endpoint, old)


def _in_rollout(client: DeploymentTarget, endpoint: str) -> set[str]:
    document = client.get_rollout(endpoint)
    if document is None or document.get("state") in ("SUCCEEDED", "ROLLED_BACK"):
        return set()
    return {str(document.get(side)) for side in ("champion", "candidate")}


def _parsed(name: str) -> re.Match[str] | None:
    return _VERSION.fullmatch(name)
