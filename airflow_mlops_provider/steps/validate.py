"""Ask a Great Expectations suite what it makes of data.

Severities decide the outcome: a ``critical`` expectation that fails stops the pipeline, a
``warning`` asks for retraining, an ``info`` is only told. An expectation that cannot be evaluated
on this data (its column is missing, say) counts as well, and is reported as errored; one that
could not be evaluated on any data is an error of the suite.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import great_expectations as gx
import pandas as pd

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import (
    DatasetRef,
    ExpectationResult,
    PredictionBatchRef,
    ValidationReport,
)
from airflow_mlops_provider.steps.batches import Asked, frame_batch, rows_of
from airflow_mlops_provider.steps.database import DatabaseTable
from airflow_mlops_provider.steps.suite_columns import (
    columns_of,
    columns_read,
    for_columns,
    of_names,
)
from airflow_mlops_provider.steps.suites import Entry, parsed
from airflow_mlops_provider.workspace import join, store_by_content, write_bytes

Severity = Literal["critical", "warning", "info"]
Outcome = Literal["passed", "warn", "retrain", "stop"]
Data = DatasetRef | PredictionBatchRef | DatabaseTable | pd.DataFrame | str

_OUTCOMES: dict[Severity, Outcome] = {"critical": "stop", "warning": "retrain", "info": "warn"}
_NOTHING = ("", "None", "[]", "{}")
_MAX_FAILURES = 50
_MAX_DETAIL = 300
_MAX_NAME = 100
_NO_PUSH_DOWN = "No provider found"
_SANE = (
    pd.Series([1.0, 2.0, 3.0]),
    pd.Series(["1", "2", "3"]),
    pd.Series([True, False, True]),
    pd.to_datetime(pd.Series(["2020-01-01", "2020-01-02", "2020-01-03"])),
    pd.to_datetime(pd.Series(["2020-01-01", "2020-01-02", "2020-01-03"]), utc=True),
)
"""Columns of every kind, on some of which each sound expectation can be evaluated."""


@dataclass(frozen=True)
class Validation:
    """A report, and the results that it sums up."""

    report: ValidationReport
    results: list[dict[str, Any]]
    """For each expectation, those that did not hold first: ``expectation``, ``kwargs``, ``column``,
    ``severity``, ``success``, ``error`` (why it could not be evaluated, or None) and ``result`` (of
    Great Expectations, in its format ``SUMMARY``)."""


def validate(
    data: Data,
    suite: Mapping[str, Any],
    *,
    suite_name: str,
    workspace: str,
    columns: Collection[str] | None = None,
) -> Validation:
    """Run ``suite`` on ``data`` and keep the results under ``{workspace}/reports/validation``.

    Only the columns that the suite needs are read. Of predictions, the live, answered inputs are
    asked, and the part of the suite that speaks of them.

    Args:
        data: A dataset, predictions, a table of a database, a frame, or the path, glob, folder
            or fsspec URI of Parquet or CSV files.
        suite: ``{"expectations": [{"type", "kwargs", "severity"}, ...]}``.
        suite_name: How reports call the suite.
        workspace: fsspec URI of the workspace.
        columns: Use the part of the suite that needs no other columns; None uses all of it.

    Raises:
        DataError: a file or table is gone, broken or without rows, or a column name comes twice.
        ParameterError: Great Expectations does not know an expectation or its arguments, or one
            cannot be evaluated on any data, or not by the database.
        ServiceError: the database does not answer.
    """
    asked: Asked = data if isinstance(data, DatabaseTable) else rows_of(data)
    if columns is None and isinstance(data, PredictionBatchRef):
        columns = asked.columns
    if columns is not None:
        suite = for_columns(suite, columns)
    entries = [dict(entry) for entry in suite["expectations"]]
    results = [_plain(result) for result in _results(asked, entries, suite_name)]
    for result in results:
        if result["error"]:
            _require_sound(asked, result, suite_name)
    results.sort(key=_gravity)
    report = _report(asked.uri, suite_name, results)
    return Validation(_stored(report, results, workspace), results)


def _results(asked: Asked, entries: list[Entry], name: str) -> Iterator[Any]:
    """Ask for values and for names apart, so that columns nobody needs are not read."""
    expectations = [parsed(entry, name) for entry in entries]
    about_values = [entry for entry in entries if not of_names(entry)]
    read = columns_read(about_values)
    batch = asked.values(None if read is None else sorted(read))
    yield from _evaluated(batch, expectations, entries, about_names=False)
    if len(about_values) < len(entries):
        yield from _evaluated(asked.names(), expectations, entries, about_names=True)


def _evaluated(
    batch: Any, expectations: list[Any], entries: list[Entry], *, about_names: bool
) -> Sequence[Any]:
    pairs = zip(expectations, entries, strict=True)
    chosen = [each for each, entry in pairs if of_names(entry) is about_names]
    suite = gx.ExpectationSuite(name="suite", expectations=chosen)
    results: Sequence[Any] = batch.validate(suite, result_format="SUMMARY").results
    return results


def _plain(result: Any) -> dict[str, Any]:
    """Return a result as JSON values; NaN becomes text."""
    config = result.expectation_config
    kwargs = {key: value for key, value in config.kwargs.items() if key != "batch_id"}
    found = {
        "expectation": config.type,
        "kwargs": kwargs,
        "column": _column(kwargs),
        "severity": getattr(config.severity, "value", config.severity) or "critical",
        "success": bool(result.success),
        "error": _raised(result.exception_info),
        "result": result.to_json_dict()["result"],
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str), parse_constant=str)
    return plain


def _gravity(result: Mapping[str, Any]) -> tuple[bool, int]:
    return result["success"], [*_OUTCOMES].index(result["severity"])


def _require_sound(asked: Asked, result: Mapping[str, Any], name: str) -> None:
    """Tell an expectation that could be evaluated on no data from one that cannot on this."""
    message = result["error"]
    if isinstance(asked, DatabaseTable):
        asked.require_answers(message)
    entry = {"type": result["expectation"], "kwargs": result["kwargs"]}
    columns = columns_of(entry)
    if _NO_PUSH_DOWN in message:
        remedy = "Great Expectations has no SQL for it: take it out, or validate a dataset."
    elif columns is None or not columns <= set(asked.columns) or _evaluates(entry, columns):
        return
    else:
        remedy = "It can be evaluated on no data: correct its kwargs."
    raise ParameterError(
        f"The suite {name!r} has the expectation {entry['type']!r} with kwargs "
        f"{entry['kwargs']!s:.500}, which raised: {message:.500}. {remedy}"
    )


def _evaluates(entry: Entry, columns: Collection[str]) -> bool:
    """Tell whether an expectation can be evaluated on columns of some kind."""
    suite = gx.ExpectationSuite(name="probe", expectations=[parsed(entry, "probe")])
    batches = (frame_batch(pd.DataFrame(dict.fromkeys(columns, sane))) for sane in _SANE)
    found = (batch.validate(suite, result_format="SUMMARY").results[0] for batch in batches)
    return any(_raised(result.exception_info) is None for result in found)


def _report(uri: str, suite: str, results: Sequence[Mapping[str, Any]]) -> ValidationReport:
    failures = [_failure(result) for result in results if not result["success"]]
    n_errored = sum(failure.errored for failure in failures)
    return ValidationReport(
        dataset_uri=uri,
        suite=suite,
        outcome=_OUTCOMES[failures[0].severity] if failures else "passed",
        n_expectations=len(results),
        n_failed=len(failures) - n_errored,
        n_errored=n_errored,
        failures=failures[:_MAX_FAILURES],
    )


def _failure(result: Mapping[str, Any]) -> ExpectationResult:
    return ExpectationResult(
        expectation=result["expectation"],
        column=result["column"],
        severity=result["severity"],
        errored=result["error"] is not None,
        detail=(result["error"] or _observed(result["result"]))[:_MAX_DETAIL],
    )


def _stored(
    report: ValidationReport, results: Sequence[Mapping[str, Any]], workspace: str
) -> ValidationReport:
    """Keep the report with all results, under the sha256 of both."""
    full = json.dumps({**report.to_xcom(), "results": results}, indent=1, sort_keys=True)
    uri, _ = store_by_content(
        join(workspace, "reports", "validation"),
        ".json",
        lambda temporary: write_bytes(temporary, full.encode()),
    )
    return replace(report, report_uri=uri)


def _column(kwargs: Mapping[str, Any]) -> str | None:
    found = [str(kwargs[key]) for key in ("column", "column_A", "column_B") if kwargs.get(key)]
    found += map(str, kwargs.get("column_list") or [])
    return ", ".join(found)[:_MAX_NAME] or None


def _raised(info: Any) -> str | None:
    """Return the first exception message; Great Expectations nests them by metric."""
    info = info or {}
    for entry in [info] if "raised_exception" in info else list(info.values()):
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None


def _observed(result: Mapping[str, Any]) -> str:
    kept = ("observed_value", "unexpected_count", "unexpected_percent", "partial_unexpected_list")
    found = {key: str(result[key]) for key in (*kept, "details") if key in result}
    return ", ".join(f"{key}: {text}" for key, text in found.items() if text not in _NOTHING)
