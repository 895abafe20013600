"""Drivers of rollouts in processes of their own, which die by ``kill -9`` where a test says.

An edge is the moment right before or right after a write to the serving target: between two
edges nothing happens that another driver could see.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

from airflow_mlops_provider.serving.client import ServingClient
from airflow_mlops_provider.steps.rollout.drive import begin, tick
from airflow_mlops_provider.steps.rollout.kinds import DrivenPlan, read_plan

_PROCESSES = multiprocessing.get_context("forkserver")  # each begins with all of it imported
_PROCESSES.set_forkserver_preload([__name__])
_PATIENCE_SECONDS = 90


class DeadlyClient(ServingClient):
    """Kills its process at an edge that is not yet in the file ``met``, and notes it there.

    With ``only`` it kills at that edge alone.
    """

    met: Path
    candidate: str
    only: str | None = None

    def put_rollout(self, endpoint: str, document: dict[str, Any], **more: Any) -> None:
        edge = f"put {document['state']} {document['weight']}"
        self._edge(f"before {edge}")
        super().put_rollout(endpoint, document, **more)
        self._edge(f"after {edge}")

    def set_traffic(self, endpoint: str, traffic: dict[str, int], **more: Any) -> Any:
        mirrored = (more.get("mirror_traffic") or {}).get(self.candidate, 0)
        edge = f"move {traffic.get(self.candidate, 0)}/{mirrored}"
        self._edge(f"before {edge}")
        moved = super().set_traffic(endpoint, traffic, **more)
        self._edge(f"after {edge}")
        return moved

    def create_deployment(self, endpoint: str, name: str, *args: Any, **more: Any) -> Any:
        self._edge(f"before create {name}")
        created = super().create_deployment(endpoint, name, *args, **more)
        self._edge(f"after create {name}")
        return created

    def delete_deployment(self, endpoint: str, name: str) -> None:
        self._edge(f"before delete {name}")
        super().delete_deployment(endpoint, name)
        self._edge(f"after delete {name}")

    def _edge(self, edge: str) -> None:
        if edge != self.only and (self.only or edge in edges(self.met)):
            return
        with self.met.open("a") as file:
            file.write(f"{edge}\n")
        os.kill(os.getpid(), signal.SIGKILL)


def edges(met: Path) -> list[str]:
    """Return the edges at which a process was killed, in order."""
    return met.read_text().splitlines() if met.exists() else []


def start_driver(
    workspace: Path, endpoint: str, plan: DrivenPlan, met: Path, only: str | None = None
) -> Any:
    """Start a process that ticks a rollout to its end, unless it is killed before."""
    arguments = (str(workspace), endpoint, plan.to_xcom(), met, only)
    process = _PROCESSES.Process(target=_drive, args=arguments)
    process.start()
    return process


def join(process: Any) -> bool:
    """Wait for a driver; tell whether it was killed."""
    process.join(_PATIENCE_SECONDS)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return bool(process.exitcode)


def _drive(
    workspace: str, endpoint: str, payload: dict[str, Any], met: Path, only: str | None
) -> None:
    plan = read_plan(payload)
    with DeadlyClient.from_workspace(workspace) as client:
        client.met, client.candidate, client.only = met, plan.candidate, only
        state = begin(client, endpoint, plan, time.time())
        while not state.ended:
            state = tick(client, endpoint, plan, time.time())
            time.sleep(plan.interval_seconds)
