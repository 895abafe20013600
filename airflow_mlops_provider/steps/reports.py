"""Monitoring reports of an endpoint's windows, and when one of them asks for something to be done.

Each report lies under its window and its model, so that a retry, a cleared task or a backfill of
the window replaces it and changes no other; ``latest.json`` is the one of the newest window,
whichever ran last. Windows are in order of their end, and a model's are counted apart, so an
endpoint should be monitored by windows of one kind. A report says what it knew: one of an older
window that comes later changes the streaks of newer ones only when these are reported on again.

The sensor and its trigger both ask :func:`find_signal`, so they cannot disagree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any, get_args

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import DriftReport, Fairness, Finding, MonitoringReport
from airflow_mlops_provider.records.monitoring import Signal
from airflow_mlops_provider.steps.windows import (
    MAX_STREAK,
    checked_streak,
    checked_time,
    forget_oldest,
    key_of,
    keys_of,
    uri_of,
    utc,
)
from airflow_mlops_provider.workspace import checked_name, join, read_json, write_json

SIGNALS: tuple[Signal, ...] = get_args(Signal)
RETRAINING: tuple[Signal, ...] = ("drift", "performance")
"""What asks for a new model."""
_MAX_ENTRIES = 20
_MAX_NAMES = 5


def publish_report(
    report: MonitoringReport, *, workspace: str, reported_at: datetime, consecutive: int = 1
) -> MonitoringReport:
    """Keep a report under its window, whole or not at all.

    The same report once more changes nothing, not even the time by which ``find_signal`` knows
    what is news.

    Args:
        report: What ``monitor_model`` gave. Without ``window_end`` its window ends at
            ``reported_at``, and then nothing is replaced.
        workspace: It lies under ``reports/monitoring/{endpoint}/``.
        reported_at: The time of the report.
        consecutive: For so many windows of the model in a row a finding has to cross its
            threshold before it is a signal, from 1 to 100. Until then it is a warning.

    Returns:
        The report with ``report_uri``, ``streak`` and ``status`` of its findings, and the signals
        that follow. Windows in which a finding is unknown neither break a streak nor add to it.

    Raises:
        ParameterError: the endpoint is no name, or ``consecutive`` is out of range.
    """
    checked_streak(consecutive, "publish_report")
    folder = reports_folder(workspace, report.endpoint)
    end = checked_time(report.window_end, "window_end", "publish_report") or utc(reported_at)
    key = _key(end, report.model_uri)
    uri = uri_of(folder, key)
    earlier = list(_earlier(folder, key))
    found = [_with_streak(each, earlier, consecutive) for each in report.findings]
    signals = [each.signal for each in found if each.status == "raised"]
    published = replace(
        report,
        findings=found,
        signals=signals if report.findings else report.signals,
        report_uri=uri,
    )
    value = {"reported_at": utc(reported_at).isoformat(), "report": published.to_xcom()}
    known = _read(uri) if key in keys_of(folder) else None
    if known is not None and known["report"] == value["report"]:
        value = known
    else:
        write_json(uri, value)
    if key == keys_of(folder)[-1]:
        write_json(join(folder, "latest.json"), value)
    forget_oldest(folder, key)
    return published


@dataclass(frozen=True)
class Stored:
    """A report as it was kept."""

    report: MonitoringReport
    reported_at: datetime


def newest_reports(workspace: str, endpoint: str) -> list[Stored]:
    """Return the reports of the newest window, one for each model."""
    folder = reports_folder(workspace, endpoint)
    keys = keys_of(folder)
    return [_stored(uri_of(folder, key)) for key in keys if _end(key) == _end(keys[-1])]


def previous_report(
    workspace: str, endpoint: str, model_uri: str | None, start: datetime
) -> MonitoringReport | None:
    """Return the report on the newest window of a model that had ended when another starts."""
    after = _key(start + timedelta(microseconds=1), model_uri)
    earlier = next(_earlier(reports_folder(workspace, endpoint), after), None)
    return MonitoringReport.from_xcom(earlier["report"]) if earlier else None


def find_signal(
    workspace: str,
    endpoint: str,
    *,
    signals: Sequence[str] = RETRAINING,
    newer_than: str | None = None,
) -> MonitoringReport | None:
    """Return the report of ``endpoint``'s newest window if it carries one of ``signals``.

    If several models were reported on in that window, any of them counts.

    Args:
        workspace: fsspec URI of the workspace.
        endpoint: Name of the endpoint.
        signals: Any of ``SIGNALS``.
        newer_than: ISO 8601 time (naive means UTC); a report of that time or before is old news.

    Raises:
        ParameterError: a signal is unknown, or ``newer_than`` is no time.
    """
    since = checked_time(newer_than, "newer_than", "find_signal")
    unknown = [signal for signal in signals if signal not in SIGNALS]
    if unknown or not signals:
        raise ParameterError.of("signals", "find_signal", f"some of {SIGNALS}", signals)
    for stored in newest_reports(workspace, endpoint):
        is_news = since is None or stored.reported_at > since
        if is_news and set(signals) & set(stored.report.signals):
            return stored.report
    return None


def shortened(report: MonitoringReport) -> MonitoringReport:
    """Return a report small enough for an asset event: of a table 20 rows, of a group five."""
    return replace(
        report,
        drift=shortened_drift(report.drift) if report.drift else None,
        quality=report.quality[:_MAX_ENTRIES],
        segments=report.segments[:_MAX_ENTRIES],
        fairness=[_shortened_fairness(each) for each in report.fairness],
    )


def shortened_drift(report: DriftReport) -> DriftReport:
    """Return a report small enough for an asset event.

    Of the features and of the segments, the first 20 that drifted are kept; of a segment's
    features, the first five.
    """
    features = [feature for feature in report.features if feature.status == "drifted"]
    segments = [
        replace(segment, drifted=segment.drifted[:_MAX_NAMES])
        for segment in report.segments
        if segment.verdict == "drifted"
    ]
    return replace(report, features=features[:_MAX_ENTRIES], segments=segments[:_MAX_ENTRIES])


def reports_folder(workspace: str, endpoint: str) -> str:
    """Return where the reports of an endpoint lie.

    Raises:
        ParameterError: ``endpoint`` is no name.
    """
    name = checked_name(endpoint, "endpoint", "the monitoring report")
    return join(workspace, "reports", "monitoring", name)


def _shortened_fairness(fairness: Fairness) -> Fairness:
    return replace(fairness, groups=dict([*fairness.groups.items()][:_MAX_NAMES]))


def _with_streak(finding: Finding, earlier: Sequence[dict[str, Any]], consecutive: int) -> Finding:
    if not finding.crossed:
        return finding
    before = (_of_signal(each, finding.signal) for each in earlier)
    known = (each for each in before if each is not None and each["status"] != "unknown")
    streak = 1 + sum(1 for _ in takewhile(lambda each: each["crossed"], known))
    enough = streak >= consecutive
    return replace(finding, streak=streak, status="raised" if enough else "warning")


def _of_signal(stored: dict[str, Any], signal: str) -> dict[str, Any] | None:
    findings = stored["report"].get("findings", ())
    return next((each for each in findings if each["signal"] == signal), None)


def _earlier(folder: str, key: str) -> Iterator[dict[str, Any]]:
    """Give what was kept of the same model's windows before one, newest first."""
    own = [each for each in keys_of(folder) if _model(each) == _model(key) and each < key]
    return (_read(uri_of(folder, each)) for each in islice(reversed(own), MAX_STREAK))


def _read(uri: str) -> dict[str, Any]:
    try:
        stored = read_json(uri)
    except ValueError as error:
        raise DataError(f"{uri} is no monitoring report: {error}. Delete it.") from error
    if not isinstance(stored, dict) or not {"reported_at", "report"} <= stored.keys():
        raise DataError(f"{uri} is no monitoring report: {str(stored)[:80]!r}. Delete it.")
    return stored


def _stored(uri: str) -> Stored:
    stored = _read(uri)
    report = MonitoringReport.from_xcom(stored["report"])
    return Stored(report, datetime.fromisoformat(stored["reported_at"]))


def _key(end: datetime, model_uri: str | None) -> str:
    model = hashlib.sha256(model_uri.encode()).hexdigest()[:12] if model_uri else "all"
    return f"{key_of(end)}-{model}"


def _end(key: str) -> str:
    return key.partition("-")[0]


def _model(key: str) -> str:
    return key.partition("-")[2]
