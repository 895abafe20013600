"""One scorer process of a deployment: how it is started, looked at and found again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from airflow_mlops_provider.environments import OUTSIDE, link_package
from airflow_mlops_provider.exceptions import ModelError
from airflow_mlops_provider.serving.processes import Born, Child, reported, spawn, tail

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.state import Deployment

Key = tuple[str, str]
"""Endpoint and deployment."""
_SCORER = "airflow_mlops_provider.serving.scorer"
_ENVIRONMENT = "airflow_mlops_provider.serving.environment"
_PING_SECONDS = 5.0
# Most requests hold one row: handing it to a team of threads costs more than predicting it.
_DEFAULTS = {"OMP_NUM_THREADS": "1"}


@dataclass
class Worker:
    """A scorer process that is up."""

    process: Child
    born: Born
    port: int
    number: int
    arguments: list[str]
    healthy: bool = True
    started: float = field(default_factory=time.monotonic)

    @property
    def memory_mb(self) -> float:
        """Memory it holds in RAM (resident set size); 0 once it is gone."""
        try:
            return float(psutil.Process(self.born.pid).memory_info().rss / 2**20)
        except psutil.Error:
            return 0.0

    async def ping(self, client: httpx.AsyncClient) -> bool:
        """Ask whether it answers."""
        try:
            answer = await client.get(f"http://127.0.0.1:{self.port}/ping", timeout=_PING_SECONDS)
        except httpx.HTTPError:
            self.healthy = False
        else:
            self.healthy = answer.is_success
        return self.healthy

    def describe(self) -> dict[str, Any]:
        """Return by what another host finds it again, as JSON values."""
        found = {"port": self.port, "number": self.number, "arguments": self.arguments}
        return {"born": asdict(self.born), **found}

    @classmethod
    def find(cls, described: dict[str, Any], folder: Path) -> Worker | None:
        """Return the worker that another host described, if it still runs."""
        born = Born(**described["born"])
        process = born.find(folder)
        rest = {name: described[name] for name in ("port", "number", "arguments")}
        return None if process is None else cls(process=process, born=born, **rest)


@dataclass(frozen=True)
class Launcher:
    """Starts scorers.

    Args:
        folder: The host's folder in the workspace.
        tracking_uri: Registry that models come from.
        client: Speaks to scorers.
    """

    folder: Path
    tracking_uri: str
    client: httpx.AsyncClient
    _pythons: dict[str, str] = field(default_factory=dict)

    def arguments(self, key: Key, deployment: Deployment, number: int) -> list[str]:
        """Return the command line of a scorer, after its interpreter."""
        endpoint, name = key
        given = {
            "endpoint": endpoint,
            "deployment": name,
            "model-uri": deployment.model_uri,
            "tracking-uri": self.tracking_uri,
            "folder": str(self.folder),
            "worker": number,
            "options": json.dumps(deployment.options.to_xcom(), sort_keys=True),
        }
        return ["-m", _SCORER, *(f"--{option}={value}" for option, value in given.items())]

    def log_file(self, key: Key, number: int) -> Path:
        """Return where a worker's standard error goes."""
        suffix = f".{number}" if number else ""
        return self.folder / "processes" / f"{'.'.join(key)}{suffix}.log"

    async def start(self, key: Key, deployment: Deployment, number: int, timeout: float) -> Worker:
        """Start a scorer and return once it answers.

        Raises:
            ModelError: it ended, was not ready in ``timeout`` seconds or does not answer; carries
                the last lines of its log. Nothing is left behind.
        """
        log_file = self.log_file(key, number)
        try:
            async with asyncio.timeout(timeout):
                return await self._start(key, deployment, number)
        except (TimeoutError, ValueError, httpx.HTTPError) as error:
            what = f"was not ready in {timeout:g} s" if isinstance(error, TimeoutError) else "ended"
            raise ModelError(
                f"The scorer of {deployment.model_uri} {what}. Check that {self.tracking_uri} has "
                f"this model, and read {log_file}. Its last log lines:\n{tail(log_file)}"
            ) from error

    async def _start(self, key: Key, deployment: Deployment, number: int) -> Worker:
        python, variables = await self._interpreter(key, deployment, number)
        arguments = self.arguments(key, deployment, number)
        log_file = self.log_file(key, number)
        process = await spawn(
            [python, *arguments], log_file, self.folder, report=True, variables=variables
        )
        async with _ended_if_it_fails(process):
            port = int(await reported(process, "port"))
            worker = Worker(process, Born.of(process.pid), port, number, arguments)
            (await self.client.get(f"http://127.0.0.1:{port}/ping")).raise_for_status()
            return worker

    async def _interpreter(
        self, key: Key, deployment: Deployment, number: int
    ) -> tuple[str, dict[str, str | None]]:
        """Return the interpreter of a scorer, and the variables that go with it."""
        variables: dict[str, str | None] = {
            name: value for name, value in _DEFAULTS.items() if name not in os.environ
        }
        if deployment.options.environment == "host":
            return sys.executable, variables
        link_package(package := self.folder / "package")
        python = self._pythons.get(deployment.model_uri, "")
        if not os.path.exists(python):
            python = await self._declared(key, deployment, number)
            self._pythons[deployment.model_uri] = python
        return python, {**variables, **OUTSIDE, "PYTHONPATH": str(package)}

    async def _declared(self, key: Key, deployment: Deployment, number: int) -> str:
        packages = ["feast"] if deployment.options.feature_repo else []
        command = [sys.executable, "-m", _ENVIRONMENT, deployment.model_uri, self.tracking_uri]
        process = await spawn(
            [*command, *packages], self.log_file(key, number), self.folder, report=True
        )
        async with _ended_if_it_fails(process):
            return await reported(process, "python")


@contextlib.asynccontextmanager
async def _ended_if_it_fails(process: Process) -> AsyncIterator[None]:
    """Kill a process and what it started, should the block not end well: it serves nobody yet."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
