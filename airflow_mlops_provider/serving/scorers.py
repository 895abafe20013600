"""The scorer processes of a serving host: those of each deployment, adopted or started."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from airflow_mlops_provider import __version__
from airflow_mlops_provider.exceptions import MlopsError
from airflow_mlops_provider.serving.prediction_log import close_orphans
from airflow_mlops_provider.serving.slots import READY_SECONDS, Slot
from airflow_mlops_provider.serving.workers import Key, Launcher, Worker
from airflow_mlops_provider.workspace import read_json, write_json

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.observer import Observer
    from airflow_mlops_provider.serving.state import Deployment

log = logging.getLogger(__name__)


@dataclass
class Team:
    """The scorers of one deployment."""

    slots: list[Slot] = field(default_factory=list)
    keepers: list[asyncio.Task[None]] = field(default_factory=list)
    starting: set[int] = field(default_factory=set)

    def held(self) -> Iterator[Worker]:
        """Give all scorers, also those that are leaving."""
        for slot in self.slots:
            yield from filter(None, (slot.worker, slot.leaving))

    def workers(self) -> Iterator[Worker]:
        """Give the scorers that take requests."""
        yield from filter(None, (slot.worker for slot in self.slots))

    @contextlib.contextmanager
    def number(self) -> Iterator[int]:
        """Reserve the lowest free number: a number names files that have one writer."""
        taken = {worker.number for worker in self.held()} | self.starting
        free = next(number for number in itertools.count() if number not in taken)
        self.starting.add(free)
        try:
            yield free
        finally:
            self.starting.remove(free)

    def watch(self) -> None:
        """Keep the scorers running from now on."""
        self.keepers = [asyncio.create_task(slot.keep()) for slot in self.slots]

    async def unwatch(self) -> None:
        """Bring no scorer back any more."""
        for task in self.keepers:
            task.cancel()
        await asyncio.gather(*self.keepers, return_exceptions=True)

    async def end(self) -> None:
        """Let all scorers finish what they have begun, and end them."""
        await self.unwatch()
        await asyncio.gather(*(slot.clear() for slot in self.slots))

    def status(self) -> dict[str, Any]:
        """Say how the scorers are, as JSON values."""
        restarts: dict[str, int] = {}
        for slot in self.slots:
            for reason, n in slot.restarts.items():
                restarts[reason] = restarts.get(reason, 0) + n
        now = time.monotonic()
        workers = [
            {
                "worker": each.number,
                "pid": each.born.pid,
                "port": each.port,
                "memory_mb": round(each.memory_mb, 1),
                "healthy": each.healthy,
                "seconds": round(now - each.started, 1),
            }
            for each in self.workers()
        ]
        return {"wanted": len(self.slots), "workers": workers, "restarts": restarts}


class Scorers:
    """Starts, adopts, watches and stops scorers.

    Args:
        folder: The host's folder in the workspace.
        tracking_uri: Registry that models come from.
        observer: Keeper of their counters.
        wanted: Tells whether a deployment is one of the state.
        moved: Called when other scorers serve; returns once the router was told.
        hung_seconds: How long a scorer may be silent.
    """

    def __init__(
        self,
        folder: Path,
        tracking_uri: str,
        observer: Observer,
        wanted: Callable[[Key], bool],
        moved: Callable[[], Awaitable[None]],
        hung_seconds: float,
    ) -> None:
        self.folder, self._observer = folder, observer
        self._wanted, self._moved, self._hung_seconds = wanted, moved, hung_seconds
        self._client = httpx.AsyncClient(timeout=30)
        self._launcher = Launcher(folder, tracking_uri, self._client)
        self._file = folder / "processes" / "scorers.json"
        self._teams: dict[Key, Team] = {}
        self._busy: dict[Key, asyncio.Lock] = {}

    @property
    def addresses(self) -> dict[Key, list[int]]:
        """Ports of the scorers that are up."""
        return {
            key: [worker.port for worker in team.workers()] for key, team in self._teams.items()
        }

    @property
    def pids(self) -> set[int]:
        """Process ids of all scorers."""
        return {worker.born.pid for team in self._teams.values() for worker in team.held()}

    def status(self, key: Key) -> dict[str, Any]:
        """Say how the scorers of a deployment are: ``wanted``, ``workers``, ``restarts``."""
        return self._teams.get(key, Team()).status()

    def lock(self, key: Key) -> asyncio.Lock:
        """Return the lock of those who start and stop a deployment's scorers."""
        return self._busy.setdefault(key, asyncio.Lock())

    def adopt(self, deployments: Mapping[Key, Deployment]) -> None:
        """Take over those scorers of ``deployments`` that an earlier host left running."""
        found = self._found()
        for key, deployment in deployments.items():
            team = self._teams[key] = self._team(key, deployment)
            for slot, worker in zip(team.slots, found.get(key, []), strict=False):
                if worker.arguments == self._launcher.arguments(key, deployment, worker.number):
                    log.info("%s runs on as process %d", slot.name, worker.born.pid)
                    slot.worker = worker

    async def bring_back(self) -> None:
        """Start the scorers that are missing; those that fail are tried again in the background.

        The caller has ended those that were not adopted: files have one writer.
        """
        self.close_orphans()
        empty = [slot for team in self._teams.values() for slot in team.slots if not slot.worker]
        failed = await asyncio.gather(
            *(slot.fill(READY_SECONDS) for slot in empty), return_exceptions=True
        )
        for slot, error in zip(empty, failed, strict=True):
            if isinstance(error, (MlopsError, OSError)):
                log.error("%s is not served, trying again: %s", slot.name, error)
            elif error is not None:
                raise error
        self._keep()
        for team in self._teams.values():
            team.watch()

    async def start(self, key: Key, deployment: Deployment, timeout: float) -> None:
        """Start the scorers of a deployment; return once they answer; the caller holds its lock.

        Raises:
            ModelError: the model cannot be loaded or does not answer; nothing is left behind.
        """
        team = self._team(key, deployment)
        filling = [asyncio.ensure_future(slot.fill(timeout)) for slot in team.slots]
        try:
            await asyncio.gather(*filling)
        except BaseException:
            for task in filling:
                task.cancel()
            await asyncio.gather(*filling, return_exceptions=True)
            await team.end()
            raise
        self._teams[key] = team
        self._keep()
        team.watch()

    async def release(self, key: Key) -> None:
        """Retire the scorers of a deployment that is gone, unless it was made anew meanwhile."""
        async with self.lock(key):
            if not self._wanted(key):
                await self.retire(key)

    async def retire(self, key: Key) -> None:
        """Let scorers finish what they have begun, and forget them; the caller holds the lock."""
        if key in self._teams:
            await self._teams[key].end()
            del self._teams[key]  # until then their open segments are no orphans
            self._keep()
        self.close_orphans()
        self._observer.forget(*key)

    async def rotate_logs(self, endpoint: str) -> None:
        """Close the open segments of an endpoint's prediction log."""
        for (owner, _), team in list(self._teams.items()):
            for worker in team.held() if owner == endpoint else ():
                with contextlib.suppress(httpx.HTTPError):  # a dead scorer's is an orphan
                    await self._client.post(f"http://127.0.0.1:{worker.port}/logs/rotate")
        self.close_orphans()

    async def unwatch(self) -> None:
        """Bring no scorer back any more."""
        await asyncio.gather(*(team.unwatch() for team in self._teams.values()))

    async def stop(self) -> None:
        """End all scorers."""
        await asyncio.gather(*(team.end() for team in self._teams.values()))
        self._teams.clear()
        self._file.unlink(missing_ok=True)
        self.close_orphans()
        await self._client.aclose()

    def close_orphans(self) -> None:
        """Close the segments of the prediction log whose scorer is gone."""
        for folder in (self.folder / "logs").glob("*/"):
            close_orphans(folder, self.pids)

    def _team(self, key: Key, deployment: Deployment) -> Team:
        team = Team()

        async def launch(timeout: float) -> Worker:
            with team.number() as number:
                return await self._launcher.start(key, deployment, number, timeout)

        options = deployment.options
        team.slots = [
            Slot(
                name="/".join(key),
                launch=launch,
                changed=self._keep,
                moved=self._moved,
                client=self._client,
                memory_mb=options.memory_mb,
                hung_seconds=self._hung_seconds,
            )
            for _ in range(options.workers)
        ]
        return team

    def _keep(self) -> None:
        """Write down which scorers run, for the host that may come after us."""
        scorers = {
            "/".join(key): [worker.describe() for worker in team.workers()]
            for key, team in self._teams.items()
        }
        try:
            write_json(str(self._file), {"version": __version__, "scorers": scorers})
            self.close_orphans()
        except OSError:  # they serve all the same
            log.exception("The scorers that run cannot be written down")

    def _found(self) -> dict[Key, list[Worker]]:
        """Return the scorers of the host before us that still run, if its code was ours."""
        kept = read_json(str(self._file)) if self._file.exists() else {}
        if kept.get("version") != __version__:
            return {}
        found: dict[Key, list[Worker]] = {}
        for name, scorers in kept["scorers"].items():
            endpoint, _, deployment = name.partition("/")
            workers = (Worker.find(each, self.folder) for each in scorers)
            found[endpoint, deployment] = [worker for worker in workers if worker is not None]
        return found
