"""The scorer's HTTP side: MLflow's scoring protocol, the Open Inference Protocol v2, probes.

Predictions run one at a time, off the event loop. The loop itself stays free to answer
``/ping``, so a slow model is not taken for a dead one; nor is one whose disk does not take the
log. What cannot be worked on soon is refused, so that memory stays bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import mlflow
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from airflow_mlops_provider import __version__
from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.serving.answers import Answer, Caller, Scorer
from airflow_mlops_provider.serving.body import read_body
from airflow_mlops_provider.serving.json_text import encode
from airflow_mlops_provider.serving.protocol_v2 import Inference, metadata
from airflow_mlops_provider.serving.scoring import Scored, ScoringError

if TYPE_CHECKING:
    from starlette.requests import Request

_MAX_BODY_BYTES = 16 << 20
_MAX_QUEUED = 256
_MAX_QUEUED_BYTES = 64 << 20
_DURABLE_SECONDS = 10.0
OVERLOADED = "Overloaded"
LOG_FAILURE = "LogFailure"


class Line:
    """Requests on their way through the one thread that predicts."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._requests = self._bytes = 0

    async def answer(self, request: Request, score: Callable[[bytes], Scored]) -> Scored:
        """Give a request's body to ``score``, log and count what comes of it.

        Raises:
            ParameterError: the body is too large; nothing is logged of it, as it was not read.
        """
        body = await read_body(request, _MAX_BODY_BYTES)
        caller = Caller.of(request.headers)
        if self._requests >= _MAX_QUEUED or self._bytes + len(body) > _MAX_QUEUED_BYTES:
            error = ScoringError(503, OVERLOADED, "Too many requests wait already. Try later.")
            refused = Answer(Scored([], None, error), 0.0, None)
            self.scorer.count(refused, caller, 503)
            return refused.scored
        self._requests, self._bytes = self._requests + 1, self._bytes + len(body)
        try:
            return await self._answer(caller, lambda: score(body))
        finally:
            self._requests, self._bytes = self._requests - 1, self._bytes - len(body)

    async def _answer(self, caller: Caller, score: Callable[[], Scored]) -> Scored:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self.worker, self.scorer.answer, score, caller)
        answer = await self._settled(answer)
        scored = answer.scored
        if answer.refusal and self.scorer.options.on_log_failure == "fail":
            message = f"The prediction could not be logged, so it is not given: {answer.refusal}"
            scored = Scored(scored.rows, None, ScoringError(500, LOG_FAILURE, message))
        self.scorer.count(answer, caller, scored.status)
        return scored

    async def _settled(self, answer: Answer) -> Answer:
        """Wait for the disk, if the answer is to survive a power cut."""
        if answer.ticket is None or self.scorer.log.durability != "power":
            return answer
        done = asyncio.wrap_future(self.scorer.log.durable(answer.ticket))
        try:
            await asyncio.wait_for(done, _DURABLE_SECONDS)
        except (OSError, TimeoutError) as error:
            refusal = OSError(f"the disk did not take the log ({error or 'in time'})")
            return Answer(answer.scored, answer.latency_ms, None, refusal)
        return answer


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
        return _json({"predictions": scored.outputs}, headers)

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


def v2_routes(line: Line, headers: dict[str, str]) -> list[Route]:
    """Return the routes of the Open Inference Protocol; the endpoint is the model's name."""
    scorer, predictor = line.scorer, line.scorer.predictor
    model, version = scorer.endpoint, scorer.model_uri.rpartition("/")[2]

    def known(answer: Callable[[Request], Awaitable[Response]]) -> Callable[..., Any]:
        async def guarded(request: Request) -> Response:
            asked = request.path_params["model"]
            if asked != model:
                message = f"Expected the model {model}, got {asked}."
                return JSONResponse({"error": message}, 404, headers)
            return await answer(request)

        return guarded

    async def infer(request: Request) -> Response:
        asked: list[Inference] = []

        def score(body: bytes) -> Scored:
            try:
                asked.append(Inference(body, predictor.inputs))
                return asked[0].checked(predictor.answer(asked[0].payload))
            except ScoringError as error:
                return Scored([{}], None, error)

        try:
            scored = await line.answer(request, score)
        except ParameterError as error:
            return JSONResponse({"error": str(error)}, 413, headers)
        if scored.error:
            return JSONResponse({"error": str(scored.error)}, scored.error.status, headers)
        outputs = scored.outputs or []
        return _json(asked[0].answer(model, version, outputs, predictor.outputs), headers)

    async def about(request: Request) -> Response:
        return _json(metadata(model, version, predictor.model.metadata.signature), headers)

    def always(**told: Any) -> Callable[[Request], Awaitable[Response]]:
        async def tell(request: Request) -> Response:
            return _json(told, headers)

        return tell

    base = "/v2/models/{model}"
    return [
        Route("/v2", always(name="airflow-mlops", version=__version__, extensions=[])),
        Route("/v2/health/live", always(live=True)),
        Route("/v2/health/ready", always(ready=True)),
        Route(base, known(about)),
        Route(f"{base}/ready", known(always(name=model, ready=True))),
        Route(f"{base}/infer", known(infer), methods=["POST"]),
    ]


def _json(value: Any, headers: dict[str, str]) -> Response:
    return Response(encode(value), headers=headers, media_type="application/json")
