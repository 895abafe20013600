"""A page about a validation, in the words of Great Expectations.

Its own Data Docs put values and column names into the page unescaped, and fetch styles, scripts
and icons from elsewhere; so only their sentences are used here, in our own frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import TYPE_CHECKING, Any

from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.expectations.registry import get_renderer_impl

from airflow_mlops_provider.steps.pages import render_page

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.validate import Validation

_BADGES = {
    "passed": "good",
    "warn": "quiet",
    "retrain": "warn",
    "stop": "bad",
    "info": "quiet",
    "warning": "warn",
    "critical": "bad",
}
_UNTOLD = (AttributeError, KeyError, IndexError, TypeError, ValueError)
"""What renderers raise for kwargs they did not think of; a page must not fail the gate."""
_NO_RENDERER: Any = ("", lambda configuration: [])
_MAX_RESULTS = 500
_MAX_VALUES = 20
_MAX_TEXT = 300
_MAX_SENTENCE = 1_000


def data_docs_page(validation: Validation) -> str:
    """Return the results as one HTML page that fetches nothing.

    At most 500 expectations are shown, and of each list of values the first 20.
    """
    shown = validation.results[:_MAX_RESULTS]
    titles = {
        "Failed": [each for each in shown if not each["success"] and each["error"] is None],
        "Could not be evaluated": [each for each in shown if each["error"] is not None],
        "Passed": [each for each in shown if each["success"]],
    }
    return render_page(
        "data_docs.html",
        report=validation.report,
        badges=_BADGES,
        groups=[(title, list(map(_row, found))) for title, found in titles.items() if found],
        n_left_out=len(validation.results) - len(shown),
    )


def _row(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "success": result["success"],
        "severity": result["severity"],
        "column": result["column"],
        "expected": _sentence(result["expectation"], result["kwargs"])[:_MAX_SENTENCE],
        "found": _found(result)[:_MAX_TEXT],
        "examples": [
            str(value)[:_MAX_TEXT]
            for value in (result["result"].get("partial_unexpected_list") or [])[:_MAX_VALUES]
        ],
    }


def _found(result: Mapping[str, Any]) -> str:
    found = result["result"]
    if result["error"] is not None:
        return str(result["error"])
    if found.get("unexpected_percent") is not None:
        percent = float(found["unexpected_percent"])
        return f"{percent:.4g} % of {found['element_count']:,} rows do not comply"
    value = found.get("observed_value")
    return "" if value is None else str(_bounded(value))


def _sentence(kind: str, kwargs: Mapping[str, Any]) -> str:
    """Return an expectation in the words of Great Expectations, or by its name if it has none."""
    bounded = {key: _bounded(value) for key, value in kwargs.items()}
    try:
        _, render = get_renderer_impl(kind, "renderer.prescriptive") or _NO_RENDERER
        blocks: Any = render(configuration=ExpectationConfiguration(type=kind, kwargs=bounded))
        plain = [each if isinstance(each, dict) else each.to_json_dict() for each in blocks]
        templates = [each["string_template"] for each in plain if each.get("string_template")]
    except _UNTOLD:
        templates = []
    if not templates:
        return f"{kind} {bounded}"
    return " ".join(
        Template(each["template"]).safe_substitute(each.get("params") or {}) for each in templates
    )


def _bounded(value: Any) -> Any:
    if isinstance(value, list) and len(value) > _MAX_VALUES:
        left = len(value) - _MAX_VALUES
        return [*map(_bounded, value[:_MAX_VALUES]), f"... {left:,} more"]
    if isinstance(value, list):
        return list(map(_bounded, value))
    return value[:_MAX_TEXT] if isinstance(value, str) else value
