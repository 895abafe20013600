"""A place for one scorer of a deployment: whoever fills it is watched, and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import MlopsError, ModelError
from airflow_mlops_provider.serving.processes import stop

if TYPE_CHECKING:
    import httpx

    from airflow_mlops_provider.serving.workers import Worker

READY_SECONDS = 180.0
_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0
"""A scorer that lived so long did not fail of what its predecessor failed of."""

log = logging.getLogger(__name__)


@dataclass
class Slot:
    """Keeps one scorer running.

    Args:
        name: What the log calls it.
        launch: Starts a scorer within so many seconds.
        changed: Called when a scorer came or went.
        moved: Called when another scorer takes the requests; returns once the router was told.
        client: Speaks to scorers.
        memory_mb: Memory that a scorer may hold, or None.
        hung_seconds: How long it may be silent.
    """

    name: str
    launch: Callable[[float], Awaitable[Worker]]
    changed: Callable[[], None]
    moved: Callable[[], Awaitable[None]]
    client: httpx.AsyncClient
    memory_mb: int | None
    hung_seconds: float
    worker: Worker | None = None
    leaving: Worker | None = None
    """Finishes what it has begun, and gets no more requests."""
    restarts: dict[str, int] = field(default_factory=dict)
    """How often a scorer was replaced, by reason: ended, hung, memory."""

    async def fill(self, timeout: float) -> None:
        """Start the first scorer.

        Raises:
            ModelError: it cannot be started, or holds too much at once; nothing is left behind.
        """
        worker = await self.launch(timeout)
        if self.memory_mb is not None and (held := worker.memory_mb) > self.memory_mb:
            await stop(worker.process)
            raise ModelError(
                f"The scorer of {self.name} holds {held:.0f} MB once its model is loaded, more "
                f"than memory_mb={self.memory_mb} allows. Give it room to serve as well."
            )
        self.worker = worker

    async def keep(self) -> None:
        """Watch the scorer for ever, and replace it whenever that is necessary."""
        failures, reason = (0 if self.worker else 1), "ended"
        while True:
            if self.worker is not None:
                reason = await self._trouble(self.worker)
                lived = time.monotonic() - self.worker.started
                failures = 0 if lived >= _STEADY_SECONDS else failures + 1
                if reason != "memory":  # it serves until another can
                    await self._drop(self.worker)
            await asyncio.sleep(_pause(failures))
            try:
                await self._replace()
                self.restarts[reason] = self.restarts.get(reason, 0) + 1
            except (MlopsError, OSError) as error:
                log.error("%s is not served, trying again: %s", self.name, error)
                failures += 1
            except Exception:  # a watchdog that dies of one error protects nobody
                log.exception("The watch over %s failed; trying again", self.name)
                failures += 1

    async def clear(self) -> None:
        """Let the scorers finish what they have begun, and end them."""
        held = [worker for worker in (self.worker, self.leaving) if worker is not None]
        await asyncio.gather(*(stop(worker.process) for worker in held))
        self.worker = self.leaving = None

    async def _replace(self) -> None:
        """Start a scorer, and only then let the one before go."""
        new = await self.launch(READY_SECONDS)
        self.worker, self.leaving = new, self.worker
        self.changed()
        await self.moved()
        if self.leaving is not None:
            await stop(self.leaving.process)
            self.leaving = None
            self.changed()

    async def _drop(self, worker: Worker) -> None:
        """End a scorer that ended or hangs."""
        with contextlib.suppress(ProcessLookupError):
            worker.process.kill()
        await worker.process.wait()
        self.worker = None
        self.changed()

    async def _trouble(self, worker: Worker) -> str:
        """Wait until a scorer has to be replaced, and give the reason in one word."""
        ended = asyncio.ensure_future(worker.process.wait())
        answered = time.monotonic()
        try:
            while True:
                if (await asyncio.wait({ended}, timeout=_LOOK_SECONDS))[0]:
                    log.warning("%s ended with status %s", self.name, worker.process.returncode)
                    return "ended"
                if await worker.ping(self.client):
                    answered = time.monotonic()
                elif not ended.done() and time.monotonic() - answered > self.hung_seconds:
                    log.warning("%s was silent for %g s", self.name, self.hung_seconds)
                    return "hung"
                if self.memory_mb is not None and (held := worker.memory_mb) > self.memory_mb:
                    log.warning(
                        "%s holds %.0f MB, more than its %d MB", self.name, held, self.memory_mb
                    )
                    return "memory"
        finally:
            ended.cancel()


def _pause(failures: int) -> float:
    return min(_PAUSE_SECONDS * 2 ** (failures - 1), _MAX_PAUSE_SECONDS) if failures else 0.0
