"""The scorer: one process that serves one model version, and logs each prediction it makes.

The serving host starts it as ``python -m airflow_mlops_provider.serving.scorer``. It reports
its port as one JSON line on standard output once the model is loaded, and has answered its own
input example.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from airflow_mlops_provider.exceptions import ModelError
from airflow_mlops_provider.serving.counters import Counters, counters_path
from airflow_mlops_provider.serving.options import DeploymentOptions
from airflow_mlops_provider.serving.prediction_log import PredictionLog
from airflow_mlops_provider.serving.privacy import Privacy

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

    from airflow_mlops_provider.serving.answers import Scorer
    from airflow_mlops_provider.serving.scoring import Predictor

_DRAIN_SECONDS = 10


def load_model(model_uri: str, tracking_uri: str) -> PyFuncModel:
    """Load a model from the one registry this process may use: model files are code."""
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    model: PyFuncModel = mlflow.pyfunc.load_model(model_uri)
    return model


def warm_up(predictor: Predictor, model_uri: str) -> None:
    """Answer the model's input example, if it has one, as a client would send it.

    Raises:
        ModelError: the model fails on its own example.
    """
    from mlflow.models.utils import SERVING_INPUT_PATH, load_serving_example

    if SERVING_INPUT_PATH not in (predictor.model.metadata.saved_input_example_info or {}):
        return
    error = predictor.score("", load_serving_example(model_uri).encode()).error
    if error:
        raise ModelError(
            f"Expected {model_uri} to answer its own input example, got {error.error_class}: "
            f"{error}. Log the model with an example and a signature that it fulfils."
        ) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the model, report the port, and serve until told to stop."""
    given = _arguments(arguments)
    report = _own_stdout()

    import uvicorn

    from airflow_mlops_provider.serving.scorer_app import build_app

    scorer = _scorer(given, DeploymentOptions.of(json.loads(given.options)))
    listener = socket.create_server(("127.0.0.1", given.port))
    print(json.dumps({"port": listener.getsockname()[1]}), file=report, flush=True)
    config = uvicorn.Config(
        build_app(scorer),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _scorer(given: argparse.Namespace, options: DeploymentOptions) -> Scorer:
    from airflow_mlops_provider.serving.answers import Scorer
    from airflow_mlops_provider.serving.scoring import Predictor

    folder = Path(given.folder)
    model = load_model(given.model_uri, given.tracking_uri)
    predictor = Predictor(model, native=options.native)
    schema = predictor.inputs
    names = schema.input_names() if schema is not None and schema.has_input_names() else None
    if options.feature_repo:
        from airflow_mlops_provider.serving.online import online_features

        predictor.online = online_features(
            options.feature_repo, options.feature_service, given.model_uri, folder.parent, names
        )
    privacy = Privacy.of(options.log_drop_columns, options.log_hash_columns, folder)
    if names:
        privacy.require_known([*names, *(predictor.online.given if predictor.online else ())])
    warm_up(predictor, given.model_uri)
    return Scorer(
        endpoint=given.endpoint,
        deployment=given.deployment,
        model_uri=given.model_uri,
        predictor=predictor,
        log=PredictionLog(
            folder / "logs" / given.endpoint, given.deployment, durability=options.durability
        ),
        counters=Counters(counters_path(folder, given.endpoint, given.deployment, given.worker)),
        options=options,
        privacy=privacy,
    )


def _own_stdout() -> TextIO:
    """Keep standard output for the report; what the model prints joins the log on stderr."""
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return report


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="airflow_mlops_provider.serving.scorer")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--deployment", required=True)
    parser.add_argument("--model-uri", required=True)
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--folder", required=True, help="the host's folder in the workspace")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--options", default="{}", help="the deployment's options as JSON")
    parser.add_argument(
        "--worker", type=int, default=0, help="which of the deployment's processes this is"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
