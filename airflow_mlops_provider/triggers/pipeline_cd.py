"""Wait until the Airflow of an environment serves, or has run, a version of a pipeline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlops_provider.exceptions import PermanentError, ServiceError
from airflow_mlops_provider.hooks.airflow_api import AirflowApiHook
from airflow_mlops_provider.records import PipelineEnvironment

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.pipeline_cd.watch import Answer


class EnvironmentTrigger(BaseTrigger):
    """Fire once a question about an environment has its answer.

    Args:
        environment: A ``PipelineEnvironment``, as a dict.
        question: ``served`` or ``finished``.
        arguments: What the question needs beside the environment.
        poke_interval: Seconds between two looks.
        until: When to give up, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        environment: dict[str, Any],
        question: str,
        arguments: dict[str, Any],
        poke_interval: float,
        until: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.environment = environment
        self.question = question
        self.arguments = arguments
        self.poke_interval = poke_interval
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        arguments = {
            "environment": self.environment,
            "question": self.question,
            "arguments": self.arguments,
            "poke_interval": self.poke_interval,
            "until": self.until,
        }
        return "airflow_mlops_provider.triggers.pipeline_cd.EnvironmentTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: ``found``, or ``error``."""
        told = None
        try:
            while True:
                answer = await asyncio.to_thread(
                    look, self.environment, self.question, self.arguments
                )
                if answer.waits_for is None:
                    yield TriggerEvent({"found": answer.found})
                    return
                if answer.waits_for != told:
                    self.log.info("Waiting: %s", answer.waits_for)
                    told = answer.waits_for
                if time.time() >= self.until:
                    yield TriggerEvent({"error": f"Waited in vain: {told}."})
                    return
                await asyncio.sleep(self.poke_interval)
        except PermanentError as error:
            yield TriggerEvent({"error": str(error)})


def look(environment: dict[str, Any], question: str, arguments: dict[str, Any]) -> Answer:
    """Ask the environment's Airflow once; one that does not answer may do so later.

    Raises:
        PermanentError: to wait longer would not help.
    """
    from airflow_mlops_provider.steps.pipeline_cd.watch import Answer, ask

    of = PipelineEnvironment.from_xcom(environment)
    try:
        with AirflowApiHook(of.airflow_conn_id).get_conn() as api:
            return ask(api, of, question, arguments)
    except ServiceError as error:
        return Answer(waits_for=str(error))
