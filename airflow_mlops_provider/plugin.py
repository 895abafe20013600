"""What the provider adds to Airflow's web pages.

Every Airflow process loads this module, also each task's, so it imports nothing of the web. It
does import the operators: the DAG processor loads plugins before it forks for each DAG file, and
so parses them without importing the operators each time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import conf

import airflow_mlops_provider.operators  # noqa: F401 - see above

PREFIX = "/mlops"


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Hand a request to the real application, imported when the first one comes."""
    from airflow_mlops_provider.ui.services import app as services

    await services(scope, receive, send)


def _path(page: str) -> str:
    """Return the path of ``page`` as browsers see it, also behind a proxy with a prefix."""
    base = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    return f"{base}{PREFIX}/{page}"


_APPS = [{"app": app, "url_prefix": PREFIX, "name": "MLOps"}]
_VIEWS = [
    {
        "name": "MLOps",
        "href": _path("page"),
        "destination": "nav",
        "category": "browse",
        "url_route": "mlops",
    }
]


class MlopsPlugin(AirflowPlugin):
    """A page that shows whether the services behind the pipelines answer."""

    name = "mlops"
    fastapi_apps = _APPS
    external_views = _VIEWS
