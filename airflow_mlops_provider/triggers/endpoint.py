"""Wait until an endpoint serves, and does it well."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlops_provider.exceptions import ParameterError, ServiceError
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.triggers.looking import pause, shared_look


class EndpointHealthTrigger(BaseTrigger):
    """Fire once an endpoint serves, and keeps its limits.

    Args:
        endpoint: Name of the endpoint.
        deployment: A deployment that must have traffic; None for any.
        poke_interval: Seconds between two looks.
        serving_conn_id: Connection of the serving host.
        limits: Of ``HealthLimits``; None asks only whether it serves.
        since: Where the window of its counters began.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        deployment: str | None,
        poke_interval: float,
        serving_conn_id: str,
        limits: dict[str, Any] | None = None,
        since: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.endpoint = endpoint
        self.deployment = deployment
        self.poke_interval = poke_interval
        self.serving_conn_id = serving_conn_id
        self.limits = limits
        self.since = since

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        arguments = {
            "endpoint": self.endpoint,
            "deployment": self.deployment,
            "poke_interval": self.poke_interval,
            "serving_conn_id": self.serving_conn_id,
            "limits": self.limits,
            "since": self.since,
        }
        return "airflow_mlops_provider.triggers.endpoint.EndpointHealthTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event with the endpoint's name."""
        told = None
        while True:
            asked = (self.serving_conn_id, self.endpoint, self.limits is not None)
            seen = await shared_look(look, *asked)
            problem, self.since = judged(seen, self.deployment, self.limits, self.since)
            if problem is None:
                break
            if problem != told:
                self.log.info("Waiting: %s", problem)
                told = problem
            await pause(self.poke_interval)
        yield TriggerEvent(self.endpoint)


def look(serving_conn_id: str, endpoint: str, counted: bool) -> Any:
    """Ask the serving host for an endpoint and, if it is to be ``counted``, its counters.

    Returns what it says in words if it does not answer or the endpoint does not exist, because both
    may still come.
    """
    try:
        with ServingHook(serving_conn_id).get_conn() as client:
            ref = client.get_state(endpoint)
            return ref, client.observe(endpoint) if counted else {}
    except (ServiceError, ParameterError) as error:
        return str(error)


def judged(
    seen: Any,
    deployment: str | None,
    limits: Mapping[str, Any] | None,
    since: dict[str, Any] | None,
) -> tuple[str | None, dict[str, Any] | None]:
    """Say what is wrong with what :func:`look` saw, and where the window began."""
    from airflow_mlops_provider.steps.endpoint_health import HealthLimits, health_problem

    if isinstance(seen, str):
        return seen, since
    ref, counters = seen
    return health_problem(
        ref,
        counters,
        HealthLimits(**limits) if limits else None,
        deployment=deployment,
        since=since,
        now=time.time(),
    )
