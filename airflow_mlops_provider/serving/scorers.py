"""The scorer processes of a serving host: one for each deployment, brought back when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from airflow_mlops_provider.exceptions import MlopsError, ModelError
from airflow_mlops_provider.serving.prediction_log import close_orphans
from airflow_mlops_provider.serving.processes import start_scorer, stop

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.observer import Observer

_READY_SECONDS = 180.0
_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 30.0

log = logging.getLogger(__name__)
Key = tuple[str, str]
"""Endpoint and deployment."""


@dataclass
class Running:
    """A scorer process that is up."""

    process: asyncio.subprocess.Process
    port: int
    guard: asyncio.Task[None] | None = field(default=None)


class Scorers:
    """Starts, watches and stops scorers.

    Args:
        folder: The host's folder in the workspace.
        tracking_uri: Registry that models come from.
        observer: Keeper of their counters.
        model_of: Gives the model that a deployment serves; None if it is not wanted.
        moved: Called when a scorer came back on another port.
    """

    def __init__(
        self,
        folder: Path,
        tracking_uri: str,
        observer: Observer,
        model_of: Callable[[Key], str | None],
        moved: Callable[[], Awaitable[None]],
    ) -> None:
        self.folder, self.tracking_uri, self._observer = folder, tracking_uri, observer
        self._model_of, self._moved = model_of, moved
        self._running: dict[Key, Running] = {}
        self._busy: dict[Key, asyncio.Lock] = {}
        self._revivals: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> dict[Key, int]:
        """Port of each scorer that is up."""
        return {key: running.port for key, running in self._running.items()}

    def lock(self, key: Key) -> asyncio.Lock:
        """Return the lock of those who start and stop a deployment's scorer."""
        return self._busy.setdefault(key, asyncio.Lock())

    async def bring_back(self, keys: Iterable[Key]) -> None:
        """Start the scorers of ``keys``; those that fail are tried again in the background."""
        self.close_orphans()
        wanted = list(keys)
        started = await asyncio.gather(*map(self._revived, wanted))
        for key, done in zip(wanted, started, strict=True):
            if not done:
                self._begin_revival(key)

    async def start(self, key: Key, model_uri: str, timeout: float) -> None:
        """Start a scorer and return once it answers; the caller holds its lock.

        Raises:
            ModelError: the model cannot be loaded or does not answer; nothing is left behind.
        """
        running = await self._launch(key, model_uri, timeout)
        self._running[key] = running
        running.guard = asyncio.create_task(self._guard(key, running))

    async def release(self, key: Key) -> None:
        """Retire the scorer of a deployment that is gone, unless it was made anew meanwhile."""
        async with self.lock(key):
            if self._model_of(key) is None:
                await self.retire(key)

    async def retire(self, key: Key) -> None:
        """Let a scorer finish what it has begun, and forget it; the caller holds its lock."""
        running = self._running.get(key)
        if running is not None:
            if running.guard:
                running.guard.cancel()
            await stop(running.process)
            del self._running[key]  # until then its open segment is no orphan
        self.close_orphans()
        self._observer.forget(*key)

    async def rotate_logs(self, endpoint: str) -> None:
        """Close the open segments of an endpoint's prediction log."""
        ports = [port for key, port in self.addresses.items() if key[0] == endpoint]
        async with httpx.AsyncClient(timeout=30) as client:
            for port in ports:
                with contextlib.suppress(httpx.HTTPError):  # a dead scorer's is an orphan
                    await client.post(f"http://127.0.0.1:{port}/logs/rotate")
        self.close_orphans()

    async def unwatch(self) -> None:
        """Bring no scorer back any more."""
        guards = [running.guard for running in self._running.values() if running.guard]
        watching = [*self._revivals, *guards]
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    async def stop(self) -> None:
        """End all scorers."""
        await asyncio.gather(*(stop(running.process) for running in self._running.values()))
        self._running.clear()
        self.close_orphans()

    def close_orphans(self) -> None:
        """Close the segments of the prediction log whose scorer is gone."""
        alive = {running.process.pid for running in self._running.values()}
        for folder in (self.folder / "logs").glob("*/"):
            close_orphans(folder, alive)

    async def _launch(self, key: Key, model_uri: str, timeout: float) -> Running:
        process, port = await start_scorer(self.folder, self.tracking_uri, *key, model_uri, timeout)
        try:
            async with httpx.AsyncClient(timeout=timeout) as client:
                (await client.get(f"http://127.0.0.1:{port}/ping")).raise_for_status()
        except httpx.HTTPError as error:
            await stop(process)
            raise ModelError(f"The scorer of {model_uri} does not answer: {error!r}") from error
        except BaseException:
            process.kill()
            raise
        return Running(process, port)

    async def _guard(self, key: Key, running: Running) -> None:
        status = await running.process.wait()
        log.warning("The scorer of %s/%s ended with status %s; starting it again", *key, status)
        self._running.pop(key, None)
        self.close_orphans()
        self._begin_revival(key)

    def _begin_revival(self, key: Key) -> None:
        task = asyncio.create_task(self._revive(key))
        self._revivals.add(task)
        task.add_done_callback(self._revivals.discard)

    async def _revive(self, key: Key) -> None:
        """Start a scorer again and again, for as long as its deployment is wanted."""
        pause = _PAUSE_SECONDS
        while not await self._revived(key):
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)
        await self._moved()

    async def _revived(self, key: Key) -> bool:
        """Start a scorer if it is wanted and missing; tell whether nothing is left to do."""
        async with self.lock(key):
            model_uri = self._model_of(key)
            if model_uri is None or key in self._running:
                return True
            try:
                await self.start(key, model_uri, _READY_SECONDS)
            except (MlopsError, OSError) as error:
                log.error("%s/%s is not served, trying again: %s", *key, error)
                return False
            return True
