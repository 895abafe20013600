"""The life of a serving host: from ``airflow-mlops serve`` to SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import ServingUnavailableError
from airflow_mlops_provider.serving.admin import build_app
from airflow_mlops_provider.serving.envoy import Left
from airflow_mlops_provider.serving.host import HUNG_SECONDS, ORPHAN_SECONDS, ServingHost
from airflow_mlops_provider.serving.processes import stop
from airflow_mlops_provider.workspace import write_json

if TYPE_CHECKING:
    from starlette.applications import Starlette


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What ``airflow-mlops serve`` was asked for; a port of 0 means any free one."""

    workspace: Path
    tracking_uri: str
    host: str = "127.0.0.1"
    port: int = 8601
    admin_port: int = 8600
    orphan_seconds: float = ORPHAN_SECONDS
    """How long router and scorers outlive a host that is killed."""
    hung_seconds: float = HUNG_SECONDS
    """How long a scorer may be silent before it is replaced."""
    public_metrics: bool = False
    """Whether ``/metrics`` of the admin API asks for no token."""


def serve(options: ServeOptions, announce: Callable[[str], None]) -> None:
    """Run the host until SIGINT or SIGTERM.

    Args:
        options: Workspace and addresses.
        announce: Takes the lines a person should see.

    Raises:
        ServingUnavailableError: a port is taken, or another host serves this workspace.
    """
    folder = (options.workspace / "serving").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with _only_host(folder), _listen(options.host, options.admin_port) as admin:
        (folder / "host.json").unlink(missing_ok=True)  # a killed host left it behind
        router_port = _router_port(folder, options)
        asyncio.run(_run(options, folder, admin, router_port, announce))


async def _run(
    options: ServeOptions,
    folder: Path,
    admin: socket.socket,
    router_port: int,
    announce: Callable[[str], None],
) -> None:
    host = ServingHost(
        folder,
        options.tracking_uri,
        options.host,
        router_port,
        orphan_seconds=options.orphan_seconds,
        hung_seconds=options.hung_seconds,
    )
    _end_when_told()
    token = _token(folder / "token")
    admin_url = f"http://{options.host}:{admin.getsockname()[1]}"
    published = folder / "host.json"
    server = _server(build_app(host, token, public_metrics=options.public_metrics))
    try:
        await host.start()
        serving = asyncio.create_task(server.serve([admin]))
        about = {"admin_url": admin_url, "router_url": host.router_url, "pid": os.getpid()}
        write_json(str(published), about)
        announce(f"Serving {options.workspace}: router {host.router_url}, admin {admin_url}")
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        announce("Stopping the serving host")
    finally:
        published.unlink(missing_ok=True)
        server.should_exit = True
        await host.stop()


def _end_when_told() -> None:
    """Cancel this task at the first signal; a second one must not break off the cleaning up."""
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None
    told = asyncio.Event()

    def tell() -> None:
        if not told.is_set():
            told.set()
            main.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, tell)


def _server(app: Starlette) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """Uvicorn without its own signal handling, which would end us before our children."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))


@contextlib.contextmanager
def _only_host(folder: Path) -> Iterator[None]:
    """Hold the workspace, so that no second host writes its state and logs."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServingUnavailableError(
                f"Another serving host holds {folder}. Stop it (its pid is in "
                f"{folder / 'host.json'}), or serve another workspace."
            ) from error
        yield


def _router_port(folder: Path, options: ServeOptions) -> int:
    """Return the port of the router that still runs, or one that is free."""
    if (left := Left.find(folder / "router")) is not None:
        if left.host == options.host and options.port in (0, left.port):
            return left.port
        asyncio.run(stop(left.process))  # its port may be the one that was asked for
    with _listen(options.host, options.port) as probe:
        return int(probe.getsockname()[1])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise ServingUnavailableError(
            f"Cannot listen on {host}:{port} ({error.strerror}). Stop what uses this port, or "
            "choose another with --port (router) or --admin-port; 0 takes any free one."
        ) from error


def _token(path: Path) -> str:
    """Return the token of the workspace, made at the first start and readable by us alone."""
    if not path.exists():
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
            f.write(secrets.token_urlsafe(32))
        temporary.rename(path)
    return path.read_text().strip()
