"""Wait until an endpoint serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import PokeReturnValue

from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.sensors.base import DeferrableSensor
from airflow_mlops_provider.triggers.endpoint import EndpointHealthTrigger, look

if TYPE_CHECKING:
    from airflow.sdk import Context


class EndpointHealthSensor(DeferrableSensor):
    """Wait until an endpoint sends traffic to deployments that are there.

    Args:
        endpoint: Name of the endpoint.
        deployment: A deployment that must have traffic, such as ``v3``; by default any.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = ("endpoint", "deployment", "serving_conn_id")

    def __init__(
        self,
        *,
        endpoint: str,
        deployment: str | None = None,
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.deployment = deployment
        self.serving_conn_id = serving_conn_id

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        problem = look(self.serving_conn_id, self.endpoint, self.deployment)
        if problem:
            self.log.info("Waiting: %s", problem)
        return PokeReturnValue(is_done=problem is None)

    def trigger(self) -> EndpointHealthTrigger:
        """Return what looks on in the triggerer."""
        return EndpointHealthTrigger(
            endpoint=self.endpoint,
            deployment=self.deployment,
            poke_interval=self.poke_interval,
            serving_conn_id=self.serving_conn_id,
        )

    def execute_complete(self, context: Context, event: str) -> None:
        """Note that the trigger saw the endpoint serve."""
        self.log.info("Endpoint %s serves", event)
