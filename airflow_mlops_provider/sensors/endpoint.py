"""Wait until an endpoint serves, and does it well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import PokeReturnValue

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.base import failing_for_good
from airflow_mlops_provider.sensors.base import DeferrableSensor
from airflow_mlops_provider.triggers.endpoint import EndpointHealthTrigger, judged, look

if TYPE_CHECKING:
    from airflow.sdk import Context


class EndpointHealthSensor(DeferrableSensor):
    """Wait until an endpoint sends traffic to deployments that are there, and keeps its limits.

    With a limit, its counters are watched over windows, the first of which begins when the sensor
    does. A window goes on until it has ``min_requests``; one that is over a limit is followed by
    another. The mode ``reschedule`` forgets where a window began, so it takes no limits.

    Args:
        endpoint: Name of the endpoint.
        deployment: A deployment that must have traffic, such as ``v3``, and is counted alone; by
            default all that have traffic.
        max_error_rate: Share of requests, in [0, 1], that may fail for the model or its scorer.
        max_p95_ms: Milliseconds that 95 % of the requests may take, as the buckets of the
            counters tell it.
        window_seconds: How long a window is at least.
        min_requests: Requests below which nothing is said of a window.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = (
        "endpoint",
        "deployment",
        "max_error_rate",
        "max_p95_ms",
        "window_seconds",
        "min_requests",
        "serving_conn_id",
    )
    _since: dict[str, Any] | None = None

    def __init__(
        self,
        *,
        endpoint: str,
        deployment: str | None = None,
        max_error_rate: Any = None,
        max_p95_ms: Any = None,
        window_seconds: Any = 300,
        min_requests: Any = 100,
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.deployment = deployment
        self.max_error_rate = max_error_rate
        self.max_p95_ms = max_p95_ms
        self.window_seconds = window_seconds
        self.min_requests = min_requests
        self.serving_conn_id = serving_conn_id

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        with failing_for_good():
            limits = self._limits()
        seen = look(self.serving_conn_id, self.endpoint, limits is not None)
        problem, self._since = judged(seen, self.deployment, limits, self._since)
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
            limits=self._limits(),
            since=self._since,
        )

    def execute_complete(self, context: Context, event: str) -> None:
        """Note that the trigger saw the endpoint serve."""
        self.log.info("Endpoint %s serves", event)

    def _limits(self) -> dict[str, Any] | None:
        from airflow_mlops_provider.steps.endpoint_health import HealthLimits

        limits = HealthLimits.of(
            self.max_error_rate, self.max_p95_ms, self.window_seconds, self.min_requests
        )
        if limits and self.reschedule and not self.deferrable:
            raise ParameterError.of("mode", type(self).__name__, "'poke' with limits", self.mode)
        return limits.to_dict() if limits else None
