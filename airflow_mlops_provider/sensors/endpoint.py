"""Wait until an endpoint serves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, conf

from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.triggers.endpoint import EndpointHealthTrigger, look

if TYPE_CHECKING:
    from airflow.sdk import Context


class EndpointHealthSensor(BaseSensorOperator):
    """Wait until an endpoint sends traffic to deployments that are there.

    Args:
        endpoint: Name of the endpoint.
        deployment: A deployment that must have traffic, such as ``v3``; by default any.
        deferrable: Wait in the triggerer, without a worker slot.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = ("endpoint", "deployment", "serving_conn_id")
    ui_color = "#e8f4fa"

    def __init__(
        self,
        *,
        endpoint: str,
        deployment: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.deployment = deployment
        self.deferrable = deferrable
        self.serving_conn_id = serving_conn_id

    def execute(self, context: Context) -> Any:
        """Look once; if the endpoint does not serve, wait here or in the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        if not self.poke(context):
            self.defer(
                trigger=EndpointHealthTrigger(
                    endpoint=self.endpoint,
                    deployment=self.deployment,
                    poke_interval=self.poke_interval,
                    serving_conn_id=self.serving_conn_id,
                ),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout),
            )
        return None

    def poke(self, context: Context) -> bool:
        """Look once."""
        problem = look(self.serving_conn_id, self.endpoint, self.deployment)
        if problem:
            self.log.info("Waiting: %s", problem)
        return problem is None

    def execute_complete(self, context: Context, event: str) -> None:
        """Note that the trigger saw the endpoint serve."""
        self.log.info("Endpoint %s serves", event)
