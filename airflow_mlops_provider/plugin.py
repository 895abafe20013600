"""What the provider adds to Airflow's web pages.

Every Airflow process loads this module, also each task's, so it imports nothing of the web. It
does import the operators: the DAG processor loads plugins before it forks for each DAG file, and
so parses them without importing the operators each time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

import airflow_mlops_provider.operators  # noqa: F401 - see above
from airflow_mlops_provider.links import PREFIX, page_path


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Hand a request to the real application, imported when the first one comes."""
    from airflow_mlops_provider.ui.services import app as services

    await services(scope, receive, send)


_APPS = [{"app": app, "url_prefix": PREFIX, "name": "MLOps"}]
_VIEWS = [
    {
        "name": "MLOps",
        "href": page_path("page"),
        "destination": "nav",
        "category": "browse",
        "url_route": "mlops",
    },
    {
        "name": "Rollouts",
        "href": page_path("rollouts"),
        "destination": "nav",
        "category": "browse",
        "url_route": "mlops_rollouts",
    },
    {
        "name": "Retraining",
        "href": page_path("retraining") + "?dag_id={DAG_ID}&run_id={RUN_ID}",
        "destination": "dag_run",
        "url_route": "mlops_retraining",
    },
]


class MlopsPlugin(AirflowPlugin):
    """Pages about the services behind the pipelines, about rollouts and about retraining."""

    name = "mlops"
    fastapi_apps = _APPS
    external_views = _VIEWS
