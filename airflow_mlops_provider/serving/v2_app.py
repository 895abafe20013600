"""The routes of the Open Inference Protocol v2."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_mlops_provider import __version__
from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.serving.json_text import encode
from airflow_mlops_provider.serving.protocol_v2 import Inference, metadata
from airflow_mlops_provider.serving.scoring import Predictor, Scored, ScoringError

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.line import Line

Handler = Callable[[Request], Awaitable[Response]]


def v2_routes(line: Line, headers: dict[str, str]) -> list[Route]:
    """Return the routes of the Open Inference Protocol; the endpoint is the model's name."""
    scorer, predictor = line.scorer, line.scorer.predictor
    model, version = scorer.endpoint, scorer.model_uri.rpartition("/")[2]

    async def infer(request: Request) -> Response:
        asked: list[Inference] = []
        try:
            scored = await line.answer(request, lambda body: _scored(predictor, body, asked))
        except ParameterError as error:
            return JSONResponse({"error": str(error)}, 413, headers)
        if scored.error:
            return JSONResponse({"error": str(scored.error)}, scored.error.status, headers)
        outputs = scored.outputs or []
        return _json(asked[0].answer(model, version, outputs, predictor.outputs), headers)

    async def about(request: Request) -> Response:
        return _json(metadata(model, version, predictor.model.metadata.signature), headers)

    def always(**told: Any) -> Handler:
        async def tell(request: Request) -> Response:
            return _json(told, headers)

        return tell

    def known(handler: Handler) -> Handler:
        return _for_model(model, handler, headers)

    base = "/v2/models/{model}"
    return [
        Route("/v2", always(name="airflow-mlops", version=__version__, extensions=[])),
        Route("/v2/health/live", always(live=True)),
        Route("/v2/health/ready", always(ready=True)),
        Route(base, known(about)),
        Route(f"{base}/ready", known(always(name=model, ready=True))),
        Route(f"{base}/infer", known(infer), methods=["POST"]),
    ]


def _scored(predictor: Predictor, body: bytes, asked: list[Inference]) -> Scored:
    """Answer a request of the protocol, which is added to ``asked`` once it is understood."""
    try:
        asked.append(Inference(body, predictor.inputs))
    except ScoringError as error:
        return Scored([{}], None, error)
    return asked[0].checked(predictor.answer(asked[0].payload))


def _for_model(model: str, handler: Handler, headers: dict[str, str]) -> Handler:
    async def guarded(request: Request) -> Response:
        asked = request.path_params["model"]
        if asked != model:
            message = f"Expected the model {model}, got {asked}."
            return JSONResponse({"error": message}, 404, headers)
        return await handler(request)

    return guarded


def _json(value: Any, headers: dict[str, str]) -> Response:
    return Response(encode(value), headers=headers, media_type="application/json")
