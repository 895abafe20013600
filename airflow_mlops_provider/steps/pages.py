"""HTML pages of the steps, kept as MLflow artifacts: whole in themselves, nothing is fetched."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render_page(template: str, **values: Any) -> str:
    """Return ``templates/{template}`` filled with ``values``, which are escaped as text."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("airflow_mlops_provider.steps", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["markdown"] = _markdown
    return environment


def _markdown(text: str) -> Markup:
    """Return Markdown as HTML; HTML within it is shown as text."""
    import mistune  # late: steps in environments of their own need no Markdown

    return Markup(mistune.create_markdown(escape=True)(text))  # noqa: S704 - mistune escaped it


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
