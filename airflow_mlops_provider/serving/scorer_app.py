"""The scorer's HTTP side: MLflow's scoring protocol, the Open Inference Protocol v2, probes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import mlflow
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.serving.json_text import encode
from airflow_mlops_provider.serving.line import Line
from airflow_mlops_provider.serving.v2_app import v2_routes

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_mlops_provider.serving.answers import Scorer


def build_app(scorer: Scorer) -> Starlette:
    """Return the ASGI application of a scorer."""
    line = Line(scorer)
    headers = {"x-deployment": scorer.deployment, "x-model-uri": scorer.model_uri}

    async def invocations(request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        try:
            scored = await line.answer(
                request, lambda body: scorer.predictor.score(content_type, body)
            )
        except ParameterError as error:
            refusal = {"error_code": "BAD_REQUEST", "message": str(error)}
            return JSONResponse(refusal, 413, headers)
        if scored.error:
            return JSONResponse(scored.error.body, scored.error.status, headers)
        text = encode({"predictions": scored.outputs})
        return Response(text, headers=headers, media_type="application/json")

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
        line.worker.shutdown()
        scorer.log.close()

    routes = [
        Route("/invocations", invocations, methods=["POST"]),
        Route("/ping", ping),
        Route("/health", ping),
        Route("/version", version),
        Route("/logs/rotate", rotate, methods=["POST"]),
        *v2_routes(line, headers),
    ]
    return Starlette(routes=routes, lifespan=lifespan)
