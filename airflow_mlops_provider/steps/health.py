"""Whether a service answers at all, asked before clients that would wait for it in silence."""

from __future__ import annotations

import requests

from airflow_mlops_provider.exceptions import MlflowUnavailableError

_TIMEOUT_SECONDS = 10


def require_mlflow(uri: str) -> None:
    """Fail at once where MLflow's own client would retry silently for minutes.

    Raises:
        MlflowUnavailableError: the server at ``uri`` does not answer within 10 seconds.
    """
    if not uri.startswith("http"):
        return
    try:
        answer = requests.get(f"{uri}/health", timeout=_TIMEOUT_SECONDS)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise MlflowUnavailableError(
            f"MLflow does not answer at {uri} ({type(error).__name__}). Start it with "
            "`mlflow server`, or correct its address."
        ) from error
