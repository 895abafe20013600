"""What a rollout asks of the serving target it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlops_provider.records import EndpointRef


class TrafficTarget(Protocol):
    """The part of a serving target's client that a rollout needs."""

    def capabilities(self) -> frozenset[str]:
        """Name what the target can do."""

    def get_state(self, endpoint: str) -> EndpointRef:
        """Return the deployments of an endpoint and its traffic."""

    @property
    def create_deployment(self) -> Callable[..., EndpointRef]:
        """``(endpoint, name, model_uri, *, timeout[, options])``: wait until it is ready.

        A deployment that runs already is left as it is.
        """

    @property
    def set_traffic(self) -> Callable[..., EndpointRef]:
        """``(endpoint, traffic, *, generation[, mirror_traffic][, sticky][, shield])``.

        Raises RegistryConflictError if ``generation`` is stale. What is in brackets is given
        only by rollouts that need it.
        """

    def observe(self, endpoint: str) -> dict[str, dict[str, Any]]:
        """Return cumulative counters by deployment."""

    @property
    def delete_deployment(self) -> Callable[[str, str], None]:
        """``(endpoint, name)``: delete a deployment without traffic, unless it is gone."""

    def get_rollout(self, endpoint: str) -> dict[str, Any] | None:
        """Return the document that was put last."""

    def put_rollout(
        self,
        endpoint: str,
        document: dict[str, Any],
        *,
        lease_seconds: Any,
        rollback_traffic: dict[str, int] | None,
    ) -> None:
        """Keep a document; roll back if it is not renewed within the lease (None: never).

        A ``rollback_traffic`` of None leaves the traffic and takes the mirrors away.
        """


class MirrorTarget(TrafficTarget, Protocol):
    """What a target with the capability ``pairs`` can do beside."""

    def pairs(self, endpoint: str, *, tolerance: float) -> dict[str, dict[str, Any]]:
        """Return counts of mirrored requests by shadow deployment."""
