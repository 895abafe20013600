"""The host's admin interface: a small HTTP API behind a bearer token, and its life cycle."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hmac
import json
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_mlops_provider.exceptions import (
    MlopsError,
    ModelError,
    ParameterError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.serving.body import read_body
from airflow_mlops_provider.serving.host import CAPABILITIES, ServingHost
from airflow_mlops_provider.workspace import write_json

_STATUS: dict[type[MlopsError], int] = {
    ParameterError: 400,
    RegistryConflictError: 409,
    ModelError: 422,
}
_MAX_BODY_BYTES = 1 << 20
Handler = Callable[[Request], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What ``airflow-mlops serve`` was asked for; a port of 0 means any free one."""

    workspace: Path
    tracking_uri: str
    host: str = "127.0.0.1"
    port: int = 8601
    admin_port: int = 8600


@dataclass(frozen=True)
class AdminApi:
    """One method per call of the admin API; each gives the JSON of its answer."""

    host: ServingHost

    async def info(self, request: Request) -> Any:
        """What the host can do and where its router listens."""
        return {"capabilities": sorted(CAPABILITIES), "router_url": self.host.router_url}

    async def list_endpoints(self, request: Request) -> Any:
        """All endpoints."""
        return [ref.to_xcom() for ref in self.host.refs()]

    async def get_state(self, request: Request) -> Any:
        """One endpoint."""
        return self.host.ref(_endpoint(request)).to_xcom()

    async def create_endpoint(self, request: Request) -> Any:
        """Create an endpoint."""
        return (await self.host.create_endpoint(_endpoint(request))).to_xcom()

    async def delete_endpoint(self, request: Request) -> Any:
        """Delete an endpoint with its deployments."""
        return await self.host.delete_endpoint(_endpoint(request))

    async def create_deployment(self, request: Request) -> Any:
        """Serve a model: ``name``, ``model_uri``, ``timeout``."""
        body = await _json(request)
        name, model_uri, timeout = body["name"], body["model_uri"], float(body["timeout"])
        ref = await self.host.create_deployment(_endpoint(request), name, model_uri, timeout)
        return ref.to_xcom()

    async def delete_deployment(self, request: Request) -> Any:
        """Stop serving a model."""
        return await self.host.delete_deployment(_endpoint(request), request.path_params["name"])

    async def set_traffic(self, request: Request) -> Any:
        """Move traffic: ``traffic``, ``generation``, ``mirror_traffic``, ``sticky``."""
        ref = await self.host.set_traffic(_endpoint(request), **await _json(request))
        return ref.to_xcom()

    async def observe(self, request: Request) -> Any:
        """Counters by deployment."""
        return await self.host.observe(_endpoint(request))

    async def pairs(self, request: Request) -> Any:
        """Mirrored requests by shadow deployment: ``tolerance``."""
        tolerance = float(request.query_params.get("tolerance", 0))
        return await self.host.pairs(_endpoint(request), tolerance)

    async def get_rollout(self, request: Request) -> Any:
        """The rollout's document, or null."""
        return self.host.rollout(_endpoint(request))

    async def put_rollout(self, request: Request) -> Any:
        """Keep a rollout: ``document``, ``lease_seconds``, ``rollback_traffic``."""
        return await self.host.put_rollout(_endpoint(request), **await _json(request))

    async def clear_rollout(self, request: Request) -> Any:
        """Forget the rollout."""
        return await self.host.clear_rollout(_endpoint(request))

    async def rotate_logs(self, request: Request) -> Any:
        """Close the open segments of the prediction log."""
        return await self.host.rotate_logs(_endpoint(request))


def build_app(host: ServingHost, token: str) -> Starlette:
    """Return the admin API of ``host``, behind ``token``."""
    api = AdminApi(host)
    one = "/endpoints/{endpoint}"
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/", api.info),
        ("GET", "/endpoints", api.list_endpoints),
        ("GET", one, api.get_state),
        ("PUT", one, api.create_endpoint),
        ("DELETE", one, api.delete_endpoint),
        ("POST", f"{one}/deployments", api.create_deployment),
        ("DELETE", f"{one}/deployments/{{name}}", api.delete_deployment),
        ("PUT", f"{one}/traffic", api.set_traffic),
        ("GET", f"{one}/counters", api.observe),
        ("GET", f"{one}/pairs", api.pairs),
        ("GET", f"{one}/rollout", api.get_rollout),
        ("PUT", f"{one}/rollout", api.put_rollout),
        ("DELETE", f"{one}/rollout", api.clear_rollout),
        ("POST", f"{one}/logs/rotate", api.rotate_logs),
    ]
    return Starlette(
        routes=[Route(path, _guarded(call, token), methods=[verb]) for verb, path, call in table]
    )


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
        with _listen(options.host, options.port) as probe:
            router_port = probe.getsockname()[1]
        asyncio.run(_run(options, folder, admin, router_port, announce))


async def _run(
    options: ServeOptions,
    folder: Path,
    admin: socket.socket,
    router_port: int,
    announce: Callable[[str], None],
) -> None:
    host = ServingHost(folder, options.tracking_uri, options.host, router_port)
    main = asyncio.current_task()
    assert main is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, main.cancel)
    token = _token(folder / "token")
    admin_url = f"http://{options.host}:{admin.getsockname()[1]}"
    published = folder / "host.json"
    server = _server(build_app(host, token))
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


def _server(app: Starlette) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """Uvicorn without its own signal handling, which would end us before our children."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))


def _guarded(call: Handler, token: str) -> Callable[[Request], Awaitable[Response]]:
    """Let only those with the token in, and answer our errors by name."""

    async def guarded(request: Request) -> Response:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return _failed(401, "ParameterError", "The token is missing or wrong.")
        try:
            return JSONResponse(await call(request))
        except MlopsError as error:
            return _failed(_STATUS.get(type(error), 503), type(error).__name__, str(error))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            message = f"The request's JSON is not what this call takes: {error!r}"
            return _failed(400, "ParameterError", message)

    return guarded


def _failed(status: int, error: str, message: str) -> Response:
    return JSONResponse({"error": error, "message": message}, status)


async def _json(request: Request) -> dict[str, Any]:
    value = json.loads(await read_body(request, _MAX_BODY_BYTES))
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, got {type(value).__name__}")
    return value


def _endpoint(request: Request) -> str:
    return str(request.path_params["endpoint"])


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
