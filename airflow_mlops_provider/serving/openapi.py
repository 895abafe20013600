"""The admin API described: an OpenAPI document, and a page of it that needs no network."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from airflow_mlops_provider import __version__
from airflow_mlops_provider.serving.feedback import MAX_ITEMS
from airflow_mlops_provider.serving.options import DeploymentOptions

_PERCENT = {"type": "object", "additionalProperties": {"type": "integer", "maximum": 100}}
_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_FLAG = {"type": "boolean"}
_OUTCOME: dict[str, Any] = {
    "label": {
        "type": ["number", "boolean", "string"],
        "description": "What turned out to be true.",
    },
    "request_id": {**_TEXT, "description": "x-request-id of the prediction; or"},
    "entity_id": {**_TEXT, "description": "its x-entity-id, with event_ts."},
    "event_ts": {**_TEXT, "format": "date-time", "description": "When it happened."},
    "row": {"type": "integer", "minimum": 0, "description": "Row of the request; by default 0."},
    "feedback_id": {**_TEXT, "description": "Sent again under this name, it counts once."},
}
_BODIES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "create_deployment": (
        ["name", "model_uri", "timeout"],
        {
            "name": _TEXT,
            "model_uri": _TEXT,
            "timeout": {**_NUMBER, "description": "Seconds until the model has to answer."},
            "options": {
                "type": "object",
                "description": "Of " + ", ".join(each.name for each in fields(DeploymentOptions)),
            },
        },
    ),
    "set_traffic": (
        ["traffic", "generation"],
        {
            "traffic": _PERCENT,
            "generation": {"type": "integer"},
            "mirror_traffic": _PERCENT,
            "sticky": _FLAG,
            "shield": _FLAG,
        },
    ),
    "send_feedback": (
        [],
        {
            "feedback": {
                "type": "array",
                "maxItems": MAX_ITEMS,
                "items": {"type": "object", "required": ["label"], "properties": _OUTCOME},
            },
            **_OUTCOME,
        },
    ),
    "put_rollout": (
        ["document"],
        {"document": {"type": "object"}, "lease_seconds": _NUMBER, "rollback_traffic": _PERCENT},
    ),
}
"""Required names and properties of what a call is sent."""
_ANSWERS = {
    "200": "Done; the answer as JSON.",
    "400": "The request is not what this call takes.",
    "401": "The token is missing or wrong.",
    "409": "Somebody else was faster, or the name is taken.",
    "422": "The model cannot be loaded.",
    "503": "The router or a service did not do its part; try again.",
}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font:13px/1.4 ui-monospace,monospace}pre{background:#8881;padding:.7rem;"
    "overflow:auto}h2{font-size:1rem;margin:1.6rem 0 .3rem}"
)


def document(calls: Iterable[tuple[str, str, str, str | None]]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of an API.

    Args:
        calls: Verb, path, name and one sentence of each call.
    """
    paths: dict[str, dict[str, Any]] = {}
    for verb, path, name, sentence in calls:
        paths.setdefault(path, {})[verb.lower()] = _operation(path, name, sentence or "")
    metrics = _operation("/metrics", "metrics", "Metrics in the text format of Prometheus.")
    paths["/metrics"] = {"get": metrics}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Serving host, admin API", "version": __version__},
        "security": [{"token": []}],
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def page(described: dict[str, Any]) -> str:
    """Return the document as a page of HTML that loads nothing else."""
    parts = [
        f"<h2><code>{verb.upper()} {html.escape(path)}</code></h2>"
        f"<p>{html.escape(operation['summary'])}</p>{_shown_body(operation)}"
        for path, operations in described["paths"].items()
        for verb, operation in operations.items()
    ]
    title = html.escape(described["info"]["title"])
    about = (
        "Each call bears the token of the workspace: <code>Authorization: Bearer …</code>, from "
        "its file <code>serving/token</code>. As a document: <a href='openapi.json'>"
        "openapi.json</a>."
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>"
        f"<style>{_STYLE}</style><h1>{title}</h1><p>{about}</p>{''.join(parts)}</html>"
    )


def _operation(path: str, name: str, sentence: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": sentence.replace("``", ""),
        "parameters": [
            {"name": each, "in": "path", "required": True, "schema": _TEXT}
            for each in re.findall(r"\{(\w+)\}", path)
        ],
        "responses": {status: {"description": words} for status, words in _ANSWERS.items()},
    }
    if name in _BODIES:
        required, properties = _BODIES[name]
        schema = {"type": "object", "required": required, "properties": properties}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _shown_body(operation: dict[str, Any]) -> str:
    if "requestBody" not in operation:
        return ""
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return f"<pre>{html.escape(json.dumps(schema['properties'], indent=1))}</pre>"
