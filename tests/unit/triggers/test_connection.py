"""Triggers find the serving host through the pipe that a real triggerer gives them."""

from __future__ import annotations

import asyncio
import json
import socket

import msgspec
import pytest
from airflow.jobs.triggerer_job_runner import TriggerCommsDecoder
from airflow.sdk.execution_time import task_runner

from airflow_mlops_provider.steps.rollout.plan import CanaryPlan
from airflow_mlops_provider.triggers.rollout import RolloutTrigger

PLAN = CanaryPlan.of(candidate="v2", model_uri="models:/m/2", outage_seconds=0)
UNKNOWN = {"type": "ErrorResponse", "error": "CONNECTION_NOT_FOUND", "detail": None}
KNOWN = {
    "type": "ConnectionResult",
    "conn_id": "mine",
    "conn_type": "mlops_serving",
    **dict.fromkeys(("schema", "login", "password", "extra")),
}


class Supervisor:
    """The triggerer's other process: knows the Connections that are in the database."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.connections: dict[str, dict] = {}
        self.asked: list[str] = []

    async def answer(self) -> None:
        while True:
            size = int.from_bytes(await self.reader.readexactly(4), "big")
            number, request, *_ = msgspec.msgpack.decode(await self.reader.readexactly(size))
            data = msgspec.msgpack.encode([number, *self._reply(request)])
            self.writer.write(len(data).to_bytes(4, "big") + data)

    def _reply(self, request: dict) -> list:
        self.asked.append(request["type"])
        if request["type"] != "GetConnection":
            return [None]
        known = self.connections.get(request["conn_id"])
        return [known] if known else [None, UNKNOWN]


@pytest.fixture
async def supervisor(monkeypatch):
    ours, theirs = socket.socketpair()
    supervisor = Supervisor(*await asyncio.open_connection(sock=theirs))
    answering = asyncio.create_task(supervisor.answer())
    reader, writer = await asyncio.open_connection(sock=ours)
    comms = TriggerCommsDecoder(socket=None, async_reader=reader, async_writer=writer)
    await comms.start_reader()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    yield supervisor
    for task in (answering, comms._reader_task):
        task.cancel()
    await asyncio.gather(answering, comms._reader_task, return_exceptions=True)
    for each in (writer, supervisor.writer):
        each.close()


async def outcome(serving_conn_id: str) -> dict:
    trigger = RolloutTrigger(endpoint="e", plan=PLAN.to_xcom(), serving_conn_id=serving_conn_id)
    async with asyncio.timeout(30):
        (event,) = [event.payload async for event in trigger.run()]
    return event


async def test_without_a_connection_it_looks_into_the_workspace(supervisor, workspace):
    event = await outcome("serving_default")
    assert event["error"].startswith(f"No serving host runs for {workspace}.")
    assert event["permanent"] is False
    assert "GetConnection" in supervisor.asked


async def test_connection_of_the_environment_is_found(supervisor, monkeypatch):
    connection = {"conn_type": "mlops_serving", "host": "127.0.0.1", "port": 1}
    connection["extra"] = {"token": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_SERVING_DEFAULT", json.dumps(connection))
    event = await outcome("serving_default")
    assert "does not answer at http://127.0.0.1:1 " in event["error"]
    assert event["permanent"] is False


async def test_connection_of_the_database_is_found(supervisor):
    supervisor.connections["mine"] = {**KNOWN, "host": "127.0.0.1", "port": 2}
    event = await outcome("mine")
    assert "does not answer at http://127.0.0.1:2 " in event["error"]
