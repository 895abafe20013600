"""The scorer: one process that serves one model version, and logs each prediction it makes.

The serving host starts it as ``python -m airflow_mlops_provider.serving.scorer``. It reports
its port as one JSON line on standard output once the model is loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.serving.body import read_body
from airflow_mlops_provider.serving.counters import Counters, counters_path
from airflow_mlops_provider.serving.prediction_log import PredictionLog
from airflow_mlops_provider.serving.router import SHADOW_SUFFIX

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from airflow_mlops_provider.serving.scoring import Scored

_DRAIN_SECONDS = 10
_MAX_BODY_BYTES = 16 << 20


@dataclass(frozen=True)
class Caller:
    """What the router says of a request."""

    request_id: str
    entity_id: str | None
    attempt: int
    shadow: bool

    @classmethod
    def of(cls, request: Request) -> Caller:
        """Read the router's headers; a request that came around it gets defaults."""
        attempt = request.headers.get("x-envoy-attempt-count", "1")
        return cls(
            request_id=request.headers.get("x-request-id") or str(uuid.uuid4()),
            entity_id=request.headers.get("x-entity-id"),
            attempt=int(attempt) if attempt.isdecimal() else 1,
            shadow=request.headers.get("host", "").partition(":")[0].endswith(SHADOW_SUFFIX),
        )


@dataclass(frozen=True)
class Scorer:
    """A loaded model, its log and its counters."""

    endpoint: str
    deployment: str
    model_uri: str
    model: PyFuncModel
    log: PredictionLog
    counters: Counters

    def answer(self, content_type: str, body: bytes, caller: Caller) -> tuple[Scored, int]:
        """Predict, log and count one request.

        Returns:
            What to reply, and the log's ticket of its records.
        """
        from airflow_mlops_provider.serving.scoring import score

        started = time.perf_counter()
        scored = score(self.model, content_type, body)
        latency_ms = (time.perf_counter() - started) * 1000
        ticket = self.log.append(self._records(scored, caller, latency_ms))
        self._count(scored, caller, latency_ms)
        return scored, ticket

    def _records(self, scored: Scored, caller: Caller, latency_ms: float) -> list[dict[str, Any]]:
        error = scored.error
        shared = {
            "request_id": caller.request_id,
            "ts": datetime.now(UTC).isoformat(),
            "endpoint": self.endpoint,
            "deployment": self.deployment,
            "model_uri": self.model_uri,
            "entity_id": caller.entity_id,
            "status": error.status if error else 200,
            "error_class": error.error_class if error else None,
            "latency_ms": round(latency_ms, 3),
            "attempt": caller.attempt,
            "shadow": caller.shadow,
        }
        outputs = scored.outputs or [None] * len(scored.rows)
        return [
            {**shared, "row": row, "inputs": inputs, "outputs": output}
            for row, (inputs, output) in enumerate(zip(scored.rows, outputs, strict=True))
        ]

    def _count(self, scored: Scored, caller: Caller, latency_ms: float) -> None:
        from airflow_mlops_provider.serving.scoring import OUTPUT_VIOLATION

        status = scored.error.status if scored.error else 200
        if scored.error and scored.error.error_class == OUTPUT_VIOLATION:
            self.counters.add("schema_violations")
        if caller.shadow:
            self.counters.add("shadow_requests")
            self.counters.add("shadow_errors", status >= 500)
            return
        self.counters.add("requests")
        self.counters.add("errors", status >= 500)
        self.counters.add("client_errors", 400 <= status < 500)
        self.counters.add_latency(latency_ms)


def build_app(scorer: Scorer) -> Starlette:
    """Return the ASGI application; predictions run one at a time, off the event loop.

    The loop itself stays free to answer ``/ping``, so a slow model is not taken for a dead one.
    """
    import mlflow
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.routing import Route

    worker = ThreadPoolExecutor(1, thread_name_prefix="predict")
    headers = {"x-deployment": scorer.deployment, "x-model-uri": scorer.model_uri}

    async def invocations(request: Request) -> Response:
        loop = asyncio.get_running_loop()
        content_type = request.headers.get("content-type", "")
        try:
            body = await read_body(request, _MAX_BODY_BYTES)
            scored, ticket = await loop.run_in_executor(
                worker, scorer.answer, content_type, body, Caller.of(request)
            )
            if scorer.log.durability == "power":
                await asyncio.to_thread(scorer.log.wait_durable, ticket)
        except ParameterError as error:  # unread, so there is nothing to log
            refusal = {"error_code": "BAD_REQUEST", "message": str(error)}
            return JSONResponse(refusal, 413, headers)
        except OSError as error:
            message = f"The prediction could not be logged, so it is not given: {error}"
            return JSONResponse({"error_code": "INTERNAL_ERROR", "message": message}, 500, headers)
        if scored.error:
            return JSONResponse(scored.error.body, scored.error.status, headers)
        return JSONResponse({"predictions": scored.outputs}, headers=headers)

    async def ping(request: Request) -> Response:
        return PlainTextResponse("\n", headers=headers)

    async def version(request: Request) -> Response:
        return PlainTextResponse(mlflow.__version__)

    async def rotate(request: Request) -> Response:
        await asyncio.to_thread(scorer.log.rotate)
        return PlainTextResponse("\n")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        worker.shutdown()
        scorer.log.close()

    routes = [
        Route("/invocations", invocations, methods=["POST"]),
        Route("/ping", ping),
        Route("/health", ping),
        Route("/version", version),
        Route("/logs/rotate", rotate, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def load_model(model_uri: str, tracking_uri: str) -> PyFuncModel:
    """Load a model from the one registry this process may use: model files are code."""
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    model: PyFuncModel = mlflow.pyfunc.load_model(model_uri)
    return model


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the model, report the port, and serve until told to stop."""
    options = _options(arguments)
    report = _own_stdout()

    import uvicorn

    folder = Path(options.folder)
    scorer = Scorer(
        endpoint=options.endpoint,
        deployment=options.deployment,
        model_uri=options.model_uri,
        model=load_model(options.model_uri, options.tracking_uri),
        log=PredictionLog(
            folder / "logs" / options.endpoint, options.deployment, durability=options.durability
        ),
        counters=Counters(counters_path(folder, options.endpoint, options.deployment)),
    )
    listener = socket.create_server(("127.0.0.1", options.port))
    print(json.dumps({"port": listener.getsockname()[1]}), file=report, flush=True)
    config = uvicorn.Config(
        build_app(scorer),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _own_stdout() -> TextIO:
    """Keep standard output for the report; what the model prints joins the log on stderr."""
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return report


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="airflow_mlops_provider.serving.scorer")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--deployment", required=True)
    parser.add_argument("--model-uri", required=True)
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--folder", required=True, help="the host's folder in the workspace")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--durability", choices=["process", "power"], default="process")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
