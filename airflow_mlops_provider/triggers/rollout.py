"""Drive a rollout from the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlops_provider.exceptions import MlopsError, PermanentError
from airflow_mlops_provider.hooks.serving import ServingHook

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.client import ServingClient
    from airflow_mlops_provider.steps.rollout.drive import Driver


class RolloutTrigger(BaseTrigger):
    """Tick a rollout until it ends, and hand its verdict to the task.

    All state lives on the serving host, so a trigger that is moved to another triggerer goes on
    from there.

    Args:
        endpoint: Name of the endpoint.
        plan: The plan of any kind of rollout, as a dict.
        serving_conn_id: Connection of the serving host.
    """

    def __init__(self, *, endpoint: str, plan: dict[str, Any], serving_conn_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.endpoint = endpoint
        self.plan = plan
        self.serving_conn_id = serving_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        arguments = {
            "endpoint": self.endpoint,
            "plan": self.plan,
            "serving_conn_id": self.serving_conn_id,
        }
        return "airflow_mlops_provider.triggers.rollout.RolloutTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: ``verdict``, or ``error`` and ``permanent``, or ``for_worker``."""
        try:
            yield TriggerEvent(await self._event())
        except MlopsError as error:
            permanent = isinstance(error, PermanentError)
            yield TriggerEvent({"error": str(error), "permanent": permanent})

    async def on_kill(self) -> None:
        """Roll back if a person marked the task failed; a cleared task goes on by itself."""
        if await asyncio.to_thread(self._marked_failed):
            self.log.warning("The task was marked failed: rolling back %s", self.endpoint)
            await asyncio.to_thread(self._abort)

    async def _event(self) -> dict[str, Any]:
        with await asyncio.to_thread(self._client) as client:
            driver = await asyncio.to_thread(self._driver, client)
            return await self._driven(driver)

    async def _driven(self, driver: Driver) -> dict[str, Any]:
        from airflow_mlops_provider.steps.rollout.progress import Progress

        progress = Progress()
        while True:
            state = await asyncio.to_thread(driver.tick, time.time())
            line = progress.line(state, time.time())
            if line:
                self.log.info("Rollout: %s", line)
            if state and state.ended:
                return {"verdict": state.verdict(self.endpoint).to_xcom()}
            if state and state.for_worker:
                return {"for_worker": True}
            await asyncio.sleep(driver.plan.interval_seconds)

    def _client(self) -> ServingClient:
        # Runs in a thread: there the triggerer lends its event loop to a synchronous
        # get_connection, which would block that loop if called on it.
        return ServingHook(self.serving_conn_id).get_conn()

    def _driver(self, client: ServingClient) -> Driver:
        from airflow_mlops_provider.steps.rollout.drive import Driver
        from airflow_mlops_provider.steps.rollout.kinds import read_plan

        return Driver(client, self.endpoint, read_plan(self.plan))

    def _abort(self) -> None:
        from airflow_mlops_provider.steps.rollout.drive import abort

        with self._client() as client:
            plan = self._driver(client).plan
            abort(client, self.endpoint, plan, "the task was marked failed", time.time())

    def _marked_failed(self) -> bool:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        ti = self.task_instance
        if ti is None:
            return False
        states = RuntimeTaskInstance.get_task_states(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
        key = ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
        return bool(states.get(ti.run_id, {}).get(key) == "failed")
