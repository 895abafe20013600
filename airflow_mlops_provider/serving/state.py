"""What the serving host keeps: endpoints, their deployments and traffic, and running rollouts.

Every change is a pure function from one state to the next; the host stores the result by
atomic rename once the router serves it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from airflow_mlops_provider.exceptions import ParameterError, RegistryConflictError
from airflow_mlops_provider.records import EndpointRef
from airflow_mlops_provider.serving.options import DeploymentOptions
from airflow_mlops_provider.workspace import read_json, write_json

# In these states a rollout no longer needs its driver.
RESTING = frozenset({"SUCCEEDED", "ROLLED_BACK", "ROLLBACK_FAILED", "PAUSED"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One model version behind an endpoint."""

    model_uri: str
    options: DeploymentOptions = field(default_factory=DeploymentOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """How long a rollout may go without word from its driver, and what happens then."""

    seconds: float
    rollback_traffic: dict[str, int] | None
    """None leaves the traffic to whoever set it, and takes the mirrors away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """Everything about one endpoint that survives a restart."""

    deployments: dict[str, Deployment] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    mirror_traffic: dict[str, int] = field(default_factory=dict)
    sticky: bool = False
    shield: bool = False
    """What one deployment answers with a 5xx is asked of another that carries traffic. Ends when
    one has all of it, so that no later split inherits it."""
    generation: int = 0
    """Grows with each change of traffic, also one the host makes itself."""
    rollout: dict[str, Any] | None = None
    lease: Lease | None = None

    def carries(self, name: str) -> bool:
        """Tell whether ``name`` gets traffic, of users or mirrored."""
        return bool(self.traffic.get(name) or self.mirror_traffic.get(name))

    def ref(self, endpoint: str, router_url: str) -> EndpointRef:
        """Return the record that clients see."""
        return EndpointRef(
            endpoint=endpoint,
            url=f"{router_url}/endpoints/{endpoint}",
            deployments={name: item.model_uri for name, item in self.deployments.items()},
            traffic=self.traffic,
            mirror_traffic=self.mirror_traffic,
            generation=self.generation,
            sticky=self.sticky,
            shield=self.shield,
        )


T = TypeVar("T")
Endpoints = dict[str, EndpointState]
_adapter = TypeAdapter(Endpoints)


def load(path: Path) -> Endpoints:
    """Read the endpoints stored at ``path``; none if there is no such file.

    Raises:
        ParameterError: a hand has edited it into something that cannot be served.
    """
    if not path.exists():
        return {}
    try:
        endpoints = _adapter.validate_python(read_json(str(path))["endpoints"])
        for state in endpoints.values():
            _check_traffic(state)
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ParameterError(
            f"Expected the state of a serving host in {path}, got: {reason[:500]} Correct it, or "
            "remove the file to begin without endpoints."
        ) from error
    return endpoints


def save(path: Path, endpoints: Endpoints) -> None:
    """Store the endpoints, whole or not at all."""
    write_json(str(path), {"endpoints": {name: asdict(item) for name, item in endpoints.items()}})


def valid_name(kind: str, name: str) -> str:
    """Return ``name``, which becomes part of URLs and file names.

    Raises:
        ParameterError: it is not 1 to 63 letters, digits, ``_`` and ``-``.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        constraint = "1 to 63 letters, digits, '_' and '-', starting with a letter or digit"
        raise ParameterError.of(kind, "the serving host", constraint, name)
    return name


def find(endpoints: Mapping[str, EndpointState], endpoint: str) -> EndpointState:
    """Return the state of ``endpoint``.

    Raises:
        ParameterError: there is none; the message names those there are.
    """
    if endpoint not in endpoints:
        known = ", ".join(sorted(endpoints)) or "none"
        raise ParameterError(
            f"No endpoint {endpoint!r} on this serving host (known: {known}). Create it first."
        )
    return endpoints[endpoint]


def wanted_deployment(
    state: EndpointState, name: str, model_uri: str, options: DeploymentOptions | None
) -> Deployment:
    """Return what is to be served; without ``options`` an existing deployment keeps its own."""
    existing = state.deployments.get(name)
    kept = existing.options if existing else DeploymentOptions()
    return Deployment(model_uri=model_uri, options=kept if options is None else options)


def with_deployment(state: EndpointState, name: str, wanted: Deployment) -> EndpointState:
    """Add a deployment without traffic; the same again changes nothing.

    Raises:
        RegistryConflictError: ``name`` already serves another model, or with other options.
    """
    existing = state.deployments.get(valid_name("deployment", name))
    if existing is None:
        return replace(state, deployments={**state.deployments, name: wanted})
    if existing != wanted:
        raise RegistryConflictError(
            f"Deployment {name!r} already serves {existing.model_uri} with {existing.options}, "
            f"not {wanted.model_uri} with {wanted.options}. Choose another name, or delete the "
            "deployment first."
        )
    return state


def without_deployment(state: EndpointState, name: str) -> EndpointState:
    """Remove a deployment; a missing one changes nothing.

    Raises:
        ParameterError: it still carries traffic.
    """
    if state.carries(name):
        raise ParameterError(
            f"Deployment {name!r} still carries traffic ({state.traffic}, mirrored "
            f"{state.mirror_traffic}). Move its traffic away before deleting it."
        )
    return replace(
        state,
        deployments=_without(state.deployments, name),
        traffic=_without(state.traffic, name),
        mirror_traffic=_without(state.mirror_traffic, name),
    )


def with_traffic(
    state: EndpointState,
    traffic: dict[str, int],
    *,
    generation: int,
    mirror_traffic: dict[str, int] | None = None,
    sticky: bool | None = None,
    shield: bool | None = None,
) -> EndpointState:
    """Set the traffic if nobody else did since ``generation``; a repeat changes nothing.

    Args:
        state: The endpoint as it is.
        traffic: Percent by deployment, summing to 100; empty takes the endpoint off line.
        generation: The generation that the change was decided on.
        mirror_traffic: Percent of requests copied to a deployment; None leaves it.
        sticky: Whether an entity stays on its side; None leaves it.
        shield: Whether what fails with a 5xx is asked of another deployment; None leaves it
            while there is another.

    Raises:
        RegistryConflictError: the endpoint has moved on.
        ParameterError: a percentage or a deployment is wrong.
    """
    if shield is None:
        shield = state.shield and _is_split(traffic)
    moved = replace(
        state,
        traffic=traffic,
        mirror_traffic=state.mirror_traffic if mirror_traffic is None else mirror_traffic,
        sticky=state.sticky if sticky is None else sticky,
        shield=shield,
        generation=generation + 1,
    )
    if moved == state:  # the answer to the first time was lost
        return state
    if generation != state.generation:
        raise RegistryConflictError(
            f"The traffic was decided on generation {generation}, but the endpoint is at "
            f"{state.generation} ({state.traffic}). Read the state again and decide anew."
        )
    _check_traffic(moved)
    for name, value in (("sticky", moved.sticky), ("shield", moved.shield)):
        if not isinstance(value, bool):
            raise ParameterError.of(name, "set_traffic", "true or false", value)
    return moved


def with_rollout(
    state: EndpointState,
    document: dict[str, Any],
    *,
    lease_seconds: float | None,
    rollback_traffic: dict[str, int] | None,
) -> EndpointState:
    """Store a rollout's document and renew its lease; with None it has none.

    Raises:
        ParameterError: the lease or the traffic to roll back to cannot be used.
    """
    if not isinstance(document, dict):
        raise ParameterError.of("document", "put_rollout", "a JSON object", document)
    if lease_seconds is None:
        return replace(state, rollout=document, lease=None)
    if not lease_seconds > 0:
        raise ParameterError.of("lease_seconds", "put_rollout", "greater than 0", lease_seconds)
    if rollback_traffic is not None:
        with_traffic(state, rollback_traffic, generation=state.generation)
    lease = Lease(seconds=lease_seconds, rollback_traffic=rollback_traffic)
    return replace(state, rollout=document, lease=lease)


def lease_runs(state: EndpointState) -> bool:
    """Tell whether silence of the rollout's driver would count against it."""
    return bool(state.lease and state.rollout and state.rollout.get("state") not in RESTING)


def with_expired_lease(state: EndpointState) -> EndpointState:
    """Roll back a rollout whose driver disappeared, and write why into its document."""
    assert state.lease is not None
    assert state.rollout is not None
    reason = f"lease expired: no word from the rollout's driver for {state.lease.seconds:g} s"
    traffic = state.lease.rollback_traffic
    if traffic is None:
        traffic = state.traffic
    try:
        moved = with_traffic(state, traffic, generation=state.generation, mirror_traffic={})
        outcome = "ROLLED_BACK"
    except ParameterError as error:
        moved, outcome, reason = state, "ROLLBACK_FAILED", f"{reason}; {error}"
    return replace(moved, lease=None, rollout={**state.rollout, "state": outcome, "reason": reason})


def _is_split(traffic: object) -> bool:
    return isinstance(traffic, dict) and sum(map(bool, traffic.values())) > 1


def _check_traffic(state: EndpointState) -> None:
    _check_percentages("traffic", state.traffic, state)
    _check_percentages("mirror_traffic", state.mirror_traffic, state)
    if state.traffic and sum(state.traffic.values()) != 100:
        constraint = "percentages that sum to 100"
        raise ParameterError.of("traffic", "set_traffic", constraint, state.traffic)


def _check_percentages(name: str, percent: Mapping[str, int], state: EndpointState) -> None:
    if not isinstance(percent, dict):
        raise ParameterError.of(name, "set_traffic", "percentages by deployment", percent)
    unknown = sorted(set(percent) - set(state.deployments))
    if unknown:
        known = ", ".join(state.deployments) or "none"
        raise ParameterError.of(name, "set_traffic", f"of known deployments ({known})", unknown)
    if any(type(share) is not int or not 0 <= share <= 100 for share in percent.values()):
        constraint = "whole percentages from 0 to 100"
        raise ParameterError.of(name, "set_traffic", constraint, dict(percent))


def _without(items: Mapping[str, T], name: str) -> dict[str, T]:
    return {key: value for key, value in items.items() if key != name}
