"""Where monitoring reports lie, and when one of them asks for something to be done.

The sensor and its trigger both ask :func:`find_signal`, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import DriftReport, MonitoringReport
from airflow_mlops_provider.workspace import checked_name, exists, join, read_json, write_json

SIGNALS = ("drift", "performance")
_MAX_ENTRIES = 20
_MAX_NAMES = 5


def publish_report(report: MonitoringReport, *, workspace: str, reported_at: datetime) -> str:
    """Make ``report`` the newest one of its endpoint, whole or not at all; return its URI."""
    uri = _latest_uri(workspace, report.endpoint)
    write_json(uri, {"reported_at": utc(reported_at).isoformat(), "report": report.to_xcom()})
    return uri


def find_signal(
    workspace: str,
    endpoint: str,
    *,
    signals: Sequence[str] = SIGNALS,
    newer_than: str | None = None,
) -> MonitoringReport | None:
    """Return the newest report of ``endpoint`` if it carries one of ``signals``, else None.

    Args:
        workspace: fsspec URI of the workspace.
        endpoint: Name of the endpoint.
        signals: Any of ``drift`` and ``performance``.
        newer_than: ISO 8601 time (naive means UTC); a report of that time or before is old news.

    Raises:
        ParameterError: a signal is unknown, or ``newer_than`` is no time.
    """
    since = checked_time(newer_than, "newer_than", "find_signal")
    unknown = [signal for signal in signals if signal not in SIGNALS]
    if unknown or not signals:
        raise ParameterError.of("signals", "find_signal", f"some of {SIGNALS}", signals)
    uri = _latest_uri(workspace, endpoint)
    if not exists(uri):
        return None
    stored = read_json(uri)
    if since and datetime.fromisoformat(stored["reported_at"]) <= since:
        return None
    report = MonitoringReport.from_xcom(stored["report"])
    return report if set(signals) & set(report.signals) else None


def shortened(report: MonitoringReport) -> MonitoringReport:
    """Return a report small enough for an asset event."""
    return replace(report, drift=shortened_drift(report.drift)) if report.drift else report


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


def checked_time(value: str | None, parameter: str, caller: str) -> datetime | None:
    """Return an ISO 8601 time in UTC (naive means UTC); None for none.

    Raises:
        ParameterError: ``value`` is no time.
    """
    if not value:
        return None
    try:
        return utc(datetime.fromisoformat(value))
    except (ValueError, OverflowError) as error:
        raise ParameterError.of(parameter, caller, "an ISO 8601 time", value) from error


def utc(moment: datetime) -> datetime:
    """Return ``moment`` in UTC; a naive one is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _latest_uri(workspace: str, endpoint: str) -> str:
    name = checked_name(endpoint, "endpoint", "the monitoring report")
    return join(workspace, "reports", "monitoring", name, "latest.json")
