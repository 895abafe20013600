"""Wait until an endpoint serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlops_provider.exceptions import ParameterError, ServiceError
from airflow_mlops_provider.hooks.serving import ServingHook


class EndpointHealthTrigger(BaseTrigger):
    """Fire once an endpoint serves.

    Args:
        endpoint: Name of the endpoint.
        deployment: A deployment that must have traffic; None for any.
        poke_interval: Seconds between two looks.
        serving_conn_id: Connection of the serving host.
    """

    def __init__(
        self, *, endpoint: str, deployment: str | None, poke_interval: float, serving_conn_id: str
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.endpoint = endpoint
        self.deployment = deployment
        self.poke_interval = poke_interval
        self.serving_conn_id = serving_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        arguments = {
            "endpoint": self.endpoint,
            "deployment": self.deployment,
            "poke_interval": self.poke_interval,
            "serving_conn_id": self.serving_conn_id,
        }
        return "airflow_mlops_provider.triggers.endpoint.EndpointHealthTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event with the endpoint's name."""
        told = None
        while problem := await asyncio.to_thread(
            look, self.serving_conn_id, self.endpoint, self.deployment
        ):
            if problem != told:
                self.log.info("Waiting: %s", problem)
                told = problem
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent(self.endpoint)


def look(serving_conn_id: str, endpoint: str, deployment: str | None) -> str | None:
    """Ask the serving host, and say what keeps the endpoint from serving, if anything does.

    A host that does not answer and an endpoint that does not exist may both still come.
    """
    from airflow_mlops_provider.steps.deploy import endpoint_problem

    try:
        with ServingHook(serving_conn_id).get_conn() as client:
            ref = client.get_state(endpoint)
    except (ServiceError, ParameterError) as error:
        return str(error)
    return endpoint_problem(ref, deployment)
