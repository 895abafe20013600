"""Run a suite of behavioural tests on a model, and keep what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scipy.stats import binomtest

from airflow_mlops_provider.exceptions import DataError, ServiceError
from airflow_mlops_provider.records import BehaviourReport, BehaviourResult, DatasetRef
from airflow_mlops_provider.steps.behaviour import declared as kinds
from airflow_mlops_provider.steps.behaviour.plans import Subject, run
from airflow_mlops_provider.steps.behaviour.sampling import sample
from airflow_mlops_provider.steps.behaviour.suite import load_suite
from airflow_mlops_provider.steps.evaluate import load_model, signature_names
from airflow_mlops_provider.workspace import join, store_by_content, write_json

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.behaviour.engine import Findings

_MAX_TESTS = 50
_MAX_DETAIL = 500
_MAX_NAME = 200
_CONFIDENCE = 0.95
_NO_SAMPLE = (kinds.MinimumFunctionality, kinds.Range)
"""Kinds whose rows are made up, so that a share of them is no estimate of a rate."""


@dataclass(frozen=True)
class BehaviourCheck:
    """A report, and the results of all tests, of which it holds the first."""

    report: BehaviourReport
    results: list[BehaviourResult]


def check_behaviour(
    model_uri: str, dataset: DatasetRef, tests: Any, *, workspace: str, seed: int = 0
) -> BehaviourCheck:
    """Try a model on rows of ``dataset``, and keep the results under ``reports/behaviour``.

    The same model, dataset, tests and seed give the same report. A test that cannot be run is
    told apart from one that failed, and counts as one for the outcome.

    Args:
        model_uri: Any MLflow model with a pyfunc flavour and a signature.
        dataset: Rows with the model's features.
        tests: A suite; see :func:`~airflow_mlops_provider.steps.behaviour.suite.load_suite`.
        workspace: fsspec URI of the workspace.
        seed: Of the rows that are drawn.

    Raises:
        DataError: the dataset is gone or empty, or lacks a feature of the model.
        ModelError: the model cannot be loaded or has no signature.
        ParameterError: a test is declared wrongly.
        ServiceError: an endpoint to compare with does not answer.
    """
    suite = load_suite(tests)
    model = load_model(model_uri)
    subject = Subject(model, model_uri, dataset.uri, _rows(model, dataset, suite.tests, seed), seed)
    results = sorted((_result(test, subject) for test in suite.tests), key=_gravity)
    report = BehaviourReport(
        model_uri=model_uri,
        dataset_uri=dataset.uri,
        suite=suite.name[:_MAX_NAME],
        outcome="failed" if any(_fails(each) for each in results) else "passed",
        n_tests=len(results),
        n_failed=sum(each.outcome == "failed" for each in results),
        n_errored=sum(each.outcome == "errored" for each in results),
        tests=results[:_MAX_TESTS],
    )
    return BehaviourCheck(_stored(report, results, workspace), results)


def _rows(model: Any, dataset: DatasetRef, tests: Sequence[kinds.BehaviourTest], seed: int) -> Any:
    features = signature_names(model)
    missing = [name for name in features if name not in dataset.columns]
    if missing:
        raise DataError(
            f"Expected columns {missing} for the model in dataset {dataset.name!r}, got "
            f"{sorted(dataset.columns)}. Give it the features it was trained on."
        )
    return sample(dataset.uri, features, max(test.n for test in tests), seed=seed)


def _result(test: kinds.BehaviourTest, subject: Subject) -> BehaviourResult:
    try:
        findings = run(test, subject)
    except ServiceError:
        raise
    except Exception as error:  # noqa: BLE001 - transformations and relations are foreign code
        return _errored(test, f"{type(error).__name__}: {error}")
    if not findings.n:
        return _errored(
            test, "It changes none of the rows, so it says nothing. Correct what it changes."
        )
    n, failures, shift = findings.n, findings.failures, findings.mean_shift
    complaints = _complaints(test, findings)
    return replace(
        _errored(test, "; ".join(complaints)),
        outcome="failed" if complaints else "passed",
        n=n,
        failures=failures,
        rate=failures / n,
        rate_high=None if isinstance(test, _NO_SAMPLE) else _highest(failures, n),
        mean_shift=shift,
        counterexamples=[example for _, example in findings.examples],
    )


def _errored(test: kinds.BehaviourTest, why: str) -> BehaviourResult:
    return BehaviourResult(
        name=test.name[:_MAX_NAME],
        kind=test.kind,
        severity=test.severity,
        outcome="errored",
        n=0,
        failures=0,
        rate=None,
        rate_high=None,
        max_failure_rate=test.max_failure_rate,
        mean_shift=None,
        detail=why[:_MAX_DETAIL],
    )


def _complaints(test: kinds.BehaviourTest, findings: Findings) -> list[str]:
    found = []
    if findings.failures / findings.n > test.max_failure_rate:
        most = ", ".join(f"{label} ({n:,})" for label, n in findings.by_label.most_common(3))
        found.append(
            f"{findings.failures:,} of {findings.n:,} rows break it, more than "
            f"max_failure_rate={test.max_failure_rate:g} allows; most often: {most}"
        )
    most_shift = getattr(test, "max_mean_shift", None)
    shift = findings.mean_shift
    if most_shift is not None and (shift is None or abs(shift) > most_shift):
        moved = "unknown" if shift is None else f"{shift:.4g}"
        found.append(
            f"the mean answer moved by {moved}, more than max_mean_shift={most_shift:g} allows"
        )
    return found


def _highest(failures: int, n: int) -> float:
    interval = binomtest(failures, n, alternative="less").proportion_ci(_CONFIDENCE)
    return float(interval.high)


def _gravity(result: BehaviourResult) -> tuple[bool, bool]:
    return result.outcome == "passed", result.severity != "critical"


def _fails(result: BehaviourResult) -> bool:
    return result.severity == "critical" and result.outcome != "passed"


def _stored(
    report: BehaviourReport, results: Sequence[BehaviourResult], workspace: str
) -> BehaviourReport:
    """Keep the report with the results of all tests, under the sha256 of both."""
    whole = {**report.to_xcom(), "tests": [each.to_xcom() for each in results]}
    uri, _ = store_by_content(
        join(workspace, "reports", "behaviour"),
        ".json",
        lambda temporary: write_json(temporary, whole),
    )
    return replace(report, report_uri=uri)
