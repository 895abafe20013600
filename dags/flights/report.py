"""What the demo tells people: one line for each record that a task returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from airflow_mlops_provider.exceptions import RecordError
from airflow_mlops_provider.records import (
    DatasetRef,
    DriftReport,
    EndpointRef,
    EvaluationReport,
    GateVerdict,
    Metric,
    ModelVersionRef,
    MonitoringReport,
    Record,
    RetrainingDecision,
    RetrainingOutcome,
    RolloutVerdict,
    ValidationReport,
)


def record_of(value: object) -> Record | None:
    """Return the record that a task returned as a plain dict; None for anything else."""
    names = set(value) if isinstance(value, dict) else set()
    for kind in _WORDS:
        if names == {each.name for each in fields(kind)}:
            try:
                return kind.from_xcom(value)
            except RecordError:
                return None
    return None


def lines_of(value: object) -> Iterator[str]:
    """Tell in words what a task returned, if it is a record."""
    record = record_of(value)
    if record is not None:
        yield from _WORDS[type(record)](record)


def _dataset(record: DatasetRef) -> Iterator[str]:
    yield f"{record.n_rows:,} rows of {record.name}"


def _validation(record: ValidationReport) -> Iterator[str]:
    told = f"{record.n_failed} of {record.n_expectations} expectations failed"
    yield f"data {record.outcome}: {told}, {record.n_errored} could not be evaluated"


def _drift(record: DriftReport) -> Iterator[str]:
    moved = [each.feature for each in record.features if each.status == "drifted"]
    yield f"drift {record.verdict} ({record.share_drifted:.0%} of features) {', '.join(moved)}"


def _evaluation(record: EvaluationReport) -> Iterator[str]:
    yield ", ".join(_metric(name, metric) for name, metric in record.metrics.items())


def _gate(record: GateVerdict) -> Iterator[str]:
    yield f"gate: {record.outcome}"
    for reason in record.reasons:
        mark = "ok  " if reason.passed else "FAIL"
        yield f"  {mark} {reason.check}: {reason.detail} (n={reason.n:,})"


def _version(record: ModelVersionRef) -> Iterator[str]:
    yield f"{record.name} version {record.version}, aliases {', '.join(record.aliases) or 'none'}"


def _endpoint(record: EndpointRef) -> Iterator[str]:
    shares = ", ".join(f"{name} {weight} %" for name, weight in record.traffic.items())
    yield f"endpoint {record.endpoint} at {record.url}: {shares or 'no traffic yet'}"


def _rollout(record: RolloutVerdict) -> Iterator[str]:
    yield f"rollout of {record.candidate} against {record.champion}: {record.state}"
    yield f"  {record.reason}"
    for step in record.steps:
        yield "  " + ", ".join(f"{name} {_figure(value)}" for name, value in step.items())


def _monitoring(record: MonitoringReport) -> Iterator[str]:
    came = "" if record.label_coverage is None else f" ({record.label_coverage:.0%})"
    yield (
        f"{record.n_predictions:,} predictions, {record.n_labelled:,} with a label{came}, "
        f"signals {', '.join(record.signals) or 'none'}"
    )
    for finding in record.findings:
        yield f"  {finding.status:7} {finding.signal}: {finding.reason}"


def _decision(record: RetrainingDecision) -> Iterator[str]:
    yield f"{record.decision}, because of {record.event.kind}: {record.reason}"


def _outcome(record: RetrainingOutcome) -> Iterator[str]:
    yield f"{record.outcome}: {record.detail}"


def _metric(name: str, metric: Metric) -> str:
    bounds = "" if metric.low is None else f" [{metric.low:.4f}, {metric.high:.4f}]"
    return f"{name} {metric.value:.4f}{bounds} (n={metric.n:,})"


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_WORDS: dict[type[Record], Callable[[Any], Iterator[str]]] = {
    DatasetRef: _dataset,
    ValidationReport: _validation,
    DriftReport: _drift,
    EvaluationReport: _evaluation,
    GateVerdict: _gate,
    ModelVersionRef: _version,
    EndpointRef: _endpoint,
    RolloutVerdict: _rollout,
    MonitoringReport: _monitoring,
    RetrainingDecision: _decision,
    RetrainingOutcome: _outcome,
}
