"""Ask a Great Expectations suite what it makes of a dataset.

Severities decide the outcome: a ``critical`` expectation that fails stops the pipeline, a
``warning`` asks for retraining, an ``info`` is only told. An expectation that cannot be evaluated
(its column is missing, say) counts as failed, and is reported as errored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import fsspec
import great_expectations as gx
import yaml
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions.exceptions import GreatExpectationsError
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import DatasetRef, ExpectationResult, ValidationReport
from airflow_mlops_provider.steps.snapshot import read_dataset
from airflow_mlops_provider.workspace import exists, join, write_json

Severity = Literal["critical", "warning", "info"]
Outcome = Literal["passed", "warn", "retrain", "stop"]

_OUTCOMES: dict[Severity, Outcome] = {"critical": "stop", "warning": "retrain", "info": "warn"}
_BAD_EXPECTATION = (GreatExpectationsError, TypeError, ValueError)
_NOTHING = ("", "None", "[]", "{}")
_MAX_FAILURES = 50
_MAX_DETAIL = 300


def load_suite(path: str) -> dict[str, Any]:
    """Read a suite (``name`` and ``expectations``) from YAML or JSON, also by fsspec URI.

    Raises:
        ParameterError: there is no such file, or it is no suite.
    """
    try:
        with fsspec.open(path, "rt") as file:
            suite: Any = yaml.safe_load(file)
    except FileNotFoundError as error:
        raise ParameterError.of("suite", "load_suite", "an existing file", path) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(
            f"The suite {path} is neither YAML nor JSON: {error}. Correct it, or name another file."
        ) from error
    expectations = suite.get("expectations") if isinstance(suite, dict) else None
    if not isinstance(expectations, list) or not expectations:
        raise ParameterError(
            f"The suite {path} has no list `expectations`. Each entry needs a `type`, `kwargs` and "
            "a `severity` (critical, warning or info)."
        )
    return dict(suite)


def validate_dataset(
    dataset: DatasetRef,
    suite: Mapping[str, Any],
    *,
    suite_name: str,
    workspace: str,
) -> ValidationReport:
    """Run ``suite`` on ``dataset`` and keep the report under ``{workspace}/reports/validation``.

    Args:
        dataset: What to look at.
        suite: ``{"expectations": [{"type", "kwargs", "severity"}, ...]}``.
        suite_name: How reports call the suite.
        workspace: fsspec URI of the workspace.

    Raises:
        DataError: the dataset is gone.
        ParameterError: the suite has an expectation that Great Expectations does not know, or
            one with wrong arguments.
    """
    parsed = _suite(suite, suite_name)
    failures = [_failure(result) for result in _results(dataset, parsed) if not result.success]
    failures.sort(key=lambda failure: [*_OUTCOMES].index(failure.severity))
    report = ValidationReport(
        dataset_uri=dataset.uri,
        suite=suite_name,
        outcome=_OUTCOMES[failures[0].severity] if failures else "passed",
        n_expectations=len(parsed.expectations),
        failures=failures[:_MAX_FAILURES],
        report_uri=join(workspace, "reports", "validation", _digest(dataset, suite) + ".json"),
    )
    if not exists(str(report.report_uri)):
        write_json(str(report.report_uri), report.to_xcom())
    return report


def _suite(suite: Mapping[str, Any], name: str) -> gx.ExpectationSuite:
    expectations = [_expectation(dict(entry), name) for entry in suite["expectations"]]
    return gx.ExpectationSuite(name=name, expectations=expectations)


def _expectation(entry: dict[str, Any], name: str) -> Any:
    """Parse one entry; a whole suite would leave out what it cannot parse, and only log it."""
    try:
        return ExpectationConfiguration(**entry).to_domain_obj()
    except _BAD_EXPECTATION as error:
        raise ParameterError(
            f"The suite {name!r} has the expectation {entry.get('type')!r} with kwargs "
            f"{entry.get('kwargs')}, which Great Expectations refuses: {error}. Correct its type, "
            "kwargs or severity."
        ) from error


def _results(dataset: DatasetRef, suite: gx.ExpectationSuite) -> Sequence[Any]:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("workspace").add_dataframe_asset(dataset.name)
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch(
        batch_parameters={"dataframe": read_dataset(dataset)}
    )
    results: Sequence[Any] = batch.validate(suite, result_format="SUMMARY").results
    return results


def _failure(result: Any) -> ExpectationResult:
    config = result.expectation_config
    raised = _raised(result.exception_info)
    return ExpectationResult(
        expectation=config.type,
        column=config.kwargs.get("column"),
        severity=_severity(config),
        errored=raised is not None,
        detail=(raised or _observed(result.result))[:_MAX_DETAIL],
    )


def _severity(config: Any) -> Severity:
    severity: Severity = getattr(config.severity, "value", config.severity) or "critical"
    return severity


def _raised(info: Any) -> str | None:
    """Return the first exception message; Great Expectations nests them by metric."""
    entries = [info] if "raised_exception" in info else list((info or {}).values())
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None


def _observed(result: Mapping[str, Any]) -> str:
    kept = ("observed_value", "unexpected_count", "unexpected_percent", "partial_unexpected_list")
    found = {key: str(result[key]) for key in (*kept, "details") if key in result}
    return ", ".join(f"{key}: {text}" for key, text in found.items() if text not in _NOTHING)


def _digest(dataset: DatasetRef, suite: Mapping[str, Any]) -> str:
    text = json.dumps([dataset.uri, dict(suite)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
