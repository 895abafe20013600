"""One report, from the log to everything that is kept and shown of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.drift.page import pictures
from airflow_mlops_provider.steps.monitor.exposition import FILE, exposition
from airflow_mlops_provider.steps.monitor.kpi import measure_kpis
from airflow_mlops_provider.steps.monitor.model import observe
from airflow_mlops_provider.steps.monitor.page import monitoring_page
from airflow_mlops_provider.steps.reports import (
    newest_reports,
    previous_report,
    publish_report,
    reports_folder,
)
from airflow_mlops_provider.steps.windows import checked_time, utc
from airflow_mlops_provider.workspace import join, write_bytes

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef, MonitoringReport, PredictionBatchRef
    from airflow_mlops_provider.steps.monitor.kpi import Query


Span = timedelta | float | str
"""A length of time: a text such as ``"1d"`` or ``"PT6H"``, or seconds."""


@dataclass(frozen=True)
class MonitorCheck:
    """What a look at a window came to."""

    report: MonitoringReport
    end: datetime
    """Of the window."""
    page: str


def check_model(
    predictions: PredictionBatchRef,
    labelled: DatasetRef | None = None,
    *,
    endpoint: str,
    workspace: str,
    due: datetime,
    reported_at: datetime,
    window: Span | None = None,
    offset: Span | None = None,
    consecutive: int = 1,
    kpis: Mapping[str, Mapping[str, Any]] | None = None,
    query: Query | None = None,
    **options: Any,
) -> MonitorCheck:
    """Report on a window, keep the report, and tell it to people and to Prometheus.

    Args:
        predictions: A compacted prediction log.
        labelled: The predictions whose labels came.
        endpoint: Name of the endpoint.
        workspace: fsspec URI of the workspace, where the report is kept.
        due: When the report was due: a window ends there, less ``offset``.
        reported_at: The time of the report; no prediction may be later.
        window: Length of the window, such as ``"1d"`` or seconds; None looks at all of
            ``predictions``.
        offset: How long before ``due`` the window ends, such as the usual delay of labels.
        consecutive: For so many windows in a row a threshold has to be crossed.
        kpis: See ``measure_kpis``.
        query: What runs the SQL of ``kpis``.
        options: See ``observe``.

    Raises:
        DataError: a file is gone, a column is missing, or a label is not what the task needs.
        ParameterError: a parameter is out of range.
    """
    start, end = _ends(due, window, offset)
    begin = start or checked_time(predictions.window_start, "window_start", "check_model")
    previous = None
    if options.get("reference") == "previous" and begin is not None:
        previous = previous_report(workspace, endpoint, options.get("model_uri"), begin)
    observed = observe(
        predictions,
        labelled,
        endpoint=endpoint,
        window_start=start.isoformat() if start else None,
        window_end=end.isoformat() if end else None,
        now=reported_at,
        previous=previous,
        kpis=measure_kpis(kpis, start=begin, end=end or utc(due), query=query),
        workspace=workspace,
        **options,
    )
    last = checked_time(observed.report.window_end, "window_end", "check_model") or utc(due)
    report = publish_report(
        replace(observed.report, window_end=last.isoformat()),
        workspace=workspace,
        reported_at=reported_at,
        consecutive=consecutive,
    )
    newest = newest_reports(workspace, endpoint)
    told = exposition([stored.report for stored in newest])
    write_bytes(join(reports_folder(workspace, endpoint), FILE), told.encode())
    drawn = pictures(observed.comparison) if observed.comparison else {}
    return MonitorCheck(report, last, monitoring_page(report, drawn, consecutive=consecutive))


def _ends(
    due: datetime, window: Span | None, offset: Span | None
) -> tuple[datetime | None, datetime | None]:
    late = _duration(offset, "offset") if offset else timedelta(0)
    if window is None:
        if late:
            constraint = "given only with a window"
            raise ParameterError.of("offset", "check_model", constraint, offset)
        return None, None
    length = _duration(window, "window")
    if not length:
        raise ParameterError.of("window", "check_model", "longer than nothing", window)
    end = utc(due) - late
    return end - length, end


def _duration(value: Span, parameter: str) -> timedelta:
    """Return a length of time; a bare number is of seconds, as text, too."""
    try:
        found = pd.Timedelta(_seconds(value)).to_pytimedelta()
    except (ValueError, TypeError, AttributeError) as error:
        constraint = "seconds or a length of time such as '1d' or 'PT6H'"
        raise ParameterError.of(parameter, "check_model", constraint, value) from error
    if found < timedelta(0):
        raise ParameterError.of(parameter, "check_model", "at least nothing", value)
    return found


def _seconds(value: Span) -> timedelta | str:
    try:
        return timedelta(seconds=float(value))  # type: ignore[arg-type]  # a length is no number
    except (TypeError, ValueError):
        return value  # type: ignore[return-value]  # neither is it
