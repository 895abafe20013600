"""``/mlops/services``: whether MLflow and the serving host answer, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from airflow_mlops_provider.hooks.mlflow import MlflowHook
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.ui import retraining, rollouts

CHECKS: dict[str, Callable[[], tuple[bool, str]]] = {
    "MLflow": lambda: MlflowHook().test_connection(),
    "Serving host": lambda: ServingHook().test_connection(),
}


class ServiceState(BaseModel):
    """Whether one service answers, and what it or its absence said."""

    name: str
    up: bool
    message: str


app = FastAPI(
    title="MLOps",
    dependencies=[Depends(get_user)],  # Airflow leaves the pages of plugins open to everyone
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
)
app.include_router(rollouts.router)
app.include_router(retraining.router)


@app.get("/services")
def services() -> list[ServiceState]:
    """Ask all services at the same time, through their default Connections."""
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        return list(pool.map(_ask, CHECKS))


@app.get("/page")
def page() -> HTMLResponse:
    """Show :func:`services` to people."""
    return HTMLResponse(files(__package__).joinpath("services.html").read_text("utf-8"))


def _ask(name: str) -> ServiceState:
    try:
        up, message = CHECKS[name]()
    except Exception as error:  # noqa: BLE001 - one broken Connection must not hide the others
        up, message = False, str(error)
    return ServiceState(name=name, up=up, message=message)
