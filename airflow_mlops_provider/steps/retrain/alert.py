"""What a person is asked about an alert, and what is kept of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_mlops_provider.records import AlertAnswer, RetrainingEvent
from airflow_mlops_provider.steps.metadata import shortened
from airflow_mlops_provider.steps.retrain.events import bounded, event_id

_MAX_FINDINGS, _MAX_TEXT = 20, 300


def findings(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what reports found, a line each, what was raised first; at most 20.

    Args:
        reports: Monitoring reports, or extras of asset events: with ``findings`` (``signal``,
            ``status``, ``reason``, ``n``), or ``reasons``; anything else is shown as it is.
    """
    lines = [line for report in reports for line in _lines(report)]
    ranked = sorted(dict.fromkeys(lines), key=lambda line: not line.startswith("**"))
    return [shortened(line, _MAX_TEXT) for line in ranked[:_MAX_FINDINGS]]


def question(events: Sequence[RetrainingEvent], found: Sequence[str]) -> str:
    """Return an alert as Markdown."""
    sources = dict.fromkeys(f"`{event.source}` at {event.at}" for event in events)
    told = [f"- {line}" for line in found] or ["Nothing was said of what it is about."]
    return "\n".join([f"Alert of {', '.join(sources)}" if sources else "Alert", "", *told])


def answered(
    name: str,
    run: str,
    *,
    answer: str,
    by: str | None,
    at: str,
    reason: str,
    found: Sequence[str],
) -> AlertAnswer:
    """Return what is kept of an answer, with the event by which it can ask for a training.

    Args:
        name: Of the ledger.
        run: ``dag_id/run_id`` of the question.
        answer: What was chosen.
        by: The person; None for nobody, when a default was taken.
        at: When, ISO 8601.
        reason: Why.
        found: What the person was shown.
    """
    evidence = {"answer": answer, "reason": reason, "asked_by": run, "findings": list(found)}
    return AlertAnswer(
        name=name,
        run=run,
        answer=answer,
        by=by or "nobody",
        at=at,
        reason=reason,
        findings=list(found),
        event=RetrainingEvent(
            id=event_id("judgement", run),
            kind="demand",
            at=at,
            source=run,
            by=by,
            evidence=bounded(evidence),
        ),
    )


def _lines(report: Mapping[str, Any]) -> list[str]:
    about = f" ({report['model_uri']})" if report.get("model_uri") else ""
    if report.get("findings"):
        return [_line(each, about) for each in report["findings"] if each.get("status") != "ok"]
    if report.get("reasons"):
        signals = [f"**{signal}**{about}" for signal in report.get("signals") or []]
        return [*signals, *map(str, report["reasons"])]
    return [f"{key}: {value}" for key, value in report.items()]


def _line(finding: Mapping[str, Any], about: str) -> str:
    signal, status = finding.get("signal"), finding.get("status")
    mark = "**" if status == "raised" else ""
    rows = f" (n={finding['n']:,})" if finding.get("n") is not None else ""
    return f"{mark}{signal} {status}{mark}{about}: {finding.get('reason', '')}{rows}"
