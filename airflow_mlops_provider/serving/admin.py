"""The host's admin interface: a small HTTP API behind a bearer token."""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from airflow_mlops_provider.exceptions import (
    MlopsError,
    ModelError,
    ParameterError,
    RecordError,
    RegistryConflictError,
)
from airflow_mlops_provider.serving import feedback, metrics, openapi
from airflow_mlops_provider.serving.body import read_body
from airflow_mlops_provider.serving.host import CAPABILITIES, ServingHost
from airflow_mlops_provider.serving.options import DeploymentOptions

_STATUS: dict[type[MlopsError], int] = {
    ParameterError: 400,
    RecordError: 400,
    RegistryConflictError: 409,
    ModelError: 422,
}
_MAX_BODY_BYTES = 1 << 20
Handler = Callable[[Request], Awaitable[Any]]
Answer = Callable[[Request], Awaitable[Response]]


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
        """Serve a model: ``name``, ``model_uri``, ``timeout``, ``options``."""
        body = await _json(request)
        name, model_uri, timeout = body["name"], str(body["model_uri"]), float(body["timeout"])
        given = body.get("options")
        options = None if given is None else DeploymentOptions.of(given)
        ref = await self.host.create_deployment(
            _endpoint(request), name, model_uri, timeout, options
        )
        return ref.to_xcom()

    async def delete_deployment(self, request: Request) -> Any:
        """Stop serving a model."""
        return await self.host.delete_deployment(_endpoint(request), request.path_params["name"])

    async def set_traffic(self, request: Request) -> Any:
        """Move traffic: ``traffic``, ``generation``, ``mirror_traffic``, ``sticky``, ``shield``."""
        ref = await self.host.set_traffic(_endpoint(request), **await _json(request))
        return ref.to_xcom()

    async def observe(self, request: Request) -> Any:
        """Counters by deployment; one that is no finite number is null."""
        counted = await self.host.observe(_endpoint(request))
        return {
            deployment: {name: _finite(value) for name, value in counters.items()}
            for deployment, counters in counted.items()
        }

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

    async def send_feedback(self, request: Request) -> Any:
        """Keep true outcomes: ``feedback``, a list of them, or one by itself."""
        given = feedback.parsed(await _json(request))
        return {"feedback_ids": await self.host.send_feedback(_endpoint(request), given)}

    async def rotate_logs(self, request: Request) -> Any:
        """Close the open segments of the prediction log and of the feedback."""
        return await self.host.rotate_logs(_endpoint(request))

    async def status(self, request: Request) -> Any:
        """How each deployment's scorers are: processes, health, memory, restarts."""
        return self.host.status(_endpoint(request))


def build_app(host: ServingHost, token: str, *, public_metrics: bool = False) -> Starlette:
    """Return the admin API of ``host``, behind ``token``.

    Its description, ``/openapi.json`` and ``/docs``, tells nothing of this host and is open.

    Args:
        host: What is administered.
        token: What each request has to bear.
        public_metrics: Whether ``/metrics`` asks for no token.
    """
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
        ("POST", f"{one}/feedback", api.send_feedback),
        ("POST", f"{one}/logs/rotate", api.rotate_logs),
        ("GET", f"{one}/status", api.status),
    ]
    shown = _metrics(host)
    return Starlette(
        routes=[
            *(Route(path, _guarded(call, token), methods=[verb]) for verb, path, call in table),
            Route("/metrics", shown if public_metrics else _behind(token, shown)),
            *_description(table),
        ]
    )


def _metrics(host: ServingHost) -> Answer:
    async def show_metrics(request: Request) -> Response:
        return Response(await metrics.exposition(host), media_type=metrics.CONTENT_TYPE)

    return show_metrics


def _description(table: list[tuple[str, str, Handler]]) -> list[Route]:
    described = openapi.document(
        (verb, path, call.__name__, call.__doc__) for verb, path, call in table
    )

    async def show_openapi(request: Request) -> Response:
        return JSONResponse(described)

    async def show_docs(request: Request) -> Response:
        return HTMLResponse(openapi.page(described))

    return [Route("/openapi.json", show_openapi), Route("/docs", show_docs)]


def _guarded(call: Handler, token: str) -> Answer:
    """Let only those with the token in, and answer our errors by name."""

    async def answer(request: Request) -> Response:
        try:
            return JSONResponse(await call(request))
        except MlopsError as error:
            return _failed(_STATUS.get(type(error), 503), type(error).__name__, str(error))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            message = f"The request's JSON is not what this call takes: {error!r}"
            return _failed(400, "ParameterError", message)

    return _behind(token, answer)


def _behind(token: str, answer: Answer) -> Answer:
    async def guarded(request: Request) -> Response:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return _failed(401, "ParameterError", "The token is missing or wrong.")
        return await answer(request)

    return guarded


def _failed(status: int, error: str, message: str) -> Response:
    return JSONResponse({"error": error, "message": message}, status)


async def _json(request: Request) -> dict[str, Any]:
    value = json.loads(await read_body(request, _MAX_BODY_BYTES))
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, got {type(value).__name__}")
    return value


def _finite(value: Any) -> Any:
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _endpoint(request: Request) -> str:
    return str(request.path_params["endpoint"])
