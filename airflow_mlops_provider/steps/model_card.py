"""The card of a registered model: what it is for, what it is, and how it came about.

After "Model Cards for Model Reporting" (Mitchell et al., FAT* 2019). Records go in, sections come
out; what is not known is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops_provider.records import (
        BehaviourReport,
        EvaluationReport,
        GateVerdict,
        Metric,
        ModelRef,
        ModelVersionRef,
        SliceMetric,
        TrainingSpec,
    )


@dataclass(frozen=True)
class Origin:
    """Where a model came from, as far as MLflow knows."""

    spec: TrainingSpec | None = None
    """What it was trained by."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Label to what it says: DAG, DAG run, git commit, …"""
    links: Mapping[str, str] = field(default_factory=dict)
    """Label of a fact to the page about it."""


@dataclass(frozen=True)
class ModelCard:
    """All there is to tell of a model version."""

    version: ModelVersionRef
    model: ModelRef
    intended_use: str | None = None
    """Markdown, as its author wrote it."""
    owner: str | None = None
    origin: Origin = Origin()
    evaluation: EvaluationReport | None = None
    behaviour: Sequence[BehaviourReport] = ()
    verdict: GateVerdict | None = None
    monitored_by: Mapping[str, str] = field(default_factory=dict)
    """Label to URI: drift profile, suite, feature service."""


@dataclass(frozen=True)
class Table:
    """Rows of text under the names of their columns; ``links`` of a row's label to a page."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A part of the card."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    is_markdown: bool = False
    """Whether ``text`` is Markdown already."""


def sections(card: ModelCard) -> list[Section]:
    """Return the parts of a card that have something to say."""
    parts: list[Callable[[ModelCard], Section | None]] = [
        _use,
        _model,
        _data,
        _evaluation,
        _behaviour,
        _verdict,
        _lineage,
    ]
    return [section for part in parts if (section := part(card))]


def _use(card: ModelCard) -> Section:
    return Section("Intended use", card.intended_use or "Not stated.", is_markdown=True)


def _model(card: ModelCard) -> Section:
    facts = {"Owner": card.owner}
    if spec := card.origin.spec:
        facts |= {
            "Estimator": _text(spec.estimator),
            "Seed": _text(spec.seed),
            "Saved with": spec.serialization,
            "Categories": _names(spec.categorical),
        }
    facts |= {
        "Parameters": _text(card.model.params),
        "Target": card.model.target,
        "Features": _names(card.model.features),
        **card.monitored_by,
    }
    return Section("Model", tables=[_facts(facts)])


def _data(card: ModelCard) -> Section:
    data = card.origin.spec and card.origin.spec.dataset
    if not data:
        facts: dict[str, str | None] = {"Logical hash": card.model.train_hash}
    else:
        facts = {
            "Dataset": data.name,
            "Rows": f"{data.n_rows:,}",
            "From": data.window_start,
            "Until (not included)": data.window_end,
            "Source": data.source,
            "Stored at": data.uri,
            "sha256 of the file": data.file_hash,
            "Logical hash of the rows": data.logical_hash,
        }
    return Section("Training data", tables=[_facts(facts)])


def _evaluation(card: ModelCard) -> Section | None:
    report = card.evaluation
    if report is None:
        return None
    figures = [*report.metrics.items()]
    figures += [(f"{name} on the golden set", metric) for name, metric in report.golden.items()]
    tables = [
        Table(
            ("metric", "value", "interval", "rows"),
            [(name, *_figure(metric)) for name, metric in figures],
        ),
        Table(
            ("slice, the worst first", "metric", "value", "interval", "rows"),
            [(_slice(cut), cut.metric, *_interval(cut, cut.score)) for cut in report.slices],
        ),
        _fairness(report),
        _facts(dict(_other_figures(report))),
    ]
    text = f"On {report.dataset_uri}. Intervals hold with {100 * report.confidence:g} % confidence."
    return Section("Evaluation", text, [table for table in tables if table.rows])


def _fairness(report: EvaluationReport) -> Table:
    return Table(
        ("groups of", "difference in selection rate", "ratio", "equalized odds difference"),
        [
            (
                each.column,
                f"{each.demographic_parity_difference:.3f}",
                f"{each.demographic_parity_ratio:.3f}",
                _number(each.equalized_odds_difference, ".3f"),
            )
            for each in report.fairness
        ],
    )


def _other_figures(report: EvaluationReport) -> Iterator[tuple[str, str]]:
    if report.threshold is not None:
        yield "Class 1 is decided from", f"{report.threshold:.4g}"
    if report.calibration_error is not None:
        yield "Expected calibration error", f"{report.calibration_error:.4f}"
    if report.importance:
        first = [f"{each.feature} {each.mean:+.4f}" for each in report.importance[:5]]
        yield "Most important", ", ".join(first)
    if cost := report.cost:
        yield (
            "Latency of one row",
            f"{cost.latency_p50_ms:.1f} ms, 95 % {cost.latency_p95_ms:.1f} ms",
        )
        yield "Loading, size", f"{cost.load_seconds:.1f} s, {cost.size_mb:.1f} MB"


def _behaviour(card: ModelCard) -> Section | None:
    if not card.behaviour:
        return None
    said = [
        f"Suite {each.suite} {each.outcome}: of {each.n_tests} tests {each.n_failed} failed, "
        f"{each.n_errored} could not be run."
        for each in card.behaviour
    ]
    table = Table(
        ("test", "severity", "outcome", "rows", "failures", "allowed", "found"),
        [
            (
                test.name,
                test.severity,
                test.outcome,
                f"{test.n:,}",
                _number(test.rate, ".2%"),
                f"{test.max_failure_rate:.2%}",
                test.detail,
            )
            for report in card.behaviour
            for test in report.tests
        ],
    )
    return Section("Behaviour", " ".join(said), [table])


def _verdict(card: ModelCard) -> Section | None:
    verdict = card.verdict
    if verdict is None:
        return None
    against = verdict.champion_uri or "nobody: it is the first model"
    table = Table(
        ("check", "passed", "found", "rows"),
        [
            (reason.check, "yes" if reason.passed else "no", reason.detail, f"{reason.n:,}")
            for reason in verdict.reasons
        ],
    )
    text = f"The gate said {verdict.outcome}, against {against}."
    return Section("Verdict of the gate", text, [table])


def _lineage(card: ModelCard) -> Section:
    facts = {
        "Model": card.model.model_uri,
        "Training run": card.model.run_id,
        **card.origin.facts,
        "Evaluated on": card.evaluation.dataset_uri if card.evaluation else None,
        "Reproduce": f"airflow-mlops reproduce {card.model.run_id}",
    }
    return Section("Lineage", tables=[_facts(facts, card.origin.links)])


def _facts(facts: Mapping[str, str | None], links: Mapping[str, str] | None = None) -> Table:
    known = [(label, value) for label, value in facts.items() if value]
    return Table(("", ""), known, links or {})


def _figure(metric: Metric) -> tuple[str, str, str]:
    return _interval(metric, metric.value)


def _interval(figure: Metric | SliceMetric, value: float) -> tuple[str, str, str]:
    low, high = _number(figure.low, ".4f"), _number(figure.high, ".4f")
    return f"{value:.4f}", f"{low} to {high}" if low else "", f"{figure.n:,}"


def _slice(cut: SliceMetric) -> str:
    return cut.value if cut.column == "where" else f"{cut.column} = {cut.value}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _names(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
