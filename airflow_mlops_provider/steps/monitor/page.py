"""The report that a person reads about live traffic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_mlops_provider.steps.monitor.estimate import ASSUMPTION
from airflow_mlops_provider.steps.pages import render_page

if TYPE_CHECKING:
    from airflow_mlops_provider.records import MonitoringReport

_ORDER = {"raised": 0, "warning": 1, "unknown": 2, "ok": 3}
_SHOWN = 50


def monitoring_page(
    report: MonitoringReport, pictures: Mapping[str, bytes], *, consecutive: int
) -> str:
    """Return the report as one HTML page that fetches nothing.

    Args:
        report: As it was published, with its streaks.
        pictures: Feature name to PNG of those that drifted.
        consecutive: How many windows in a row raise a signal.
    """
    return render_page(
        "monitoring.html",
        report=report,
        statuses=Counter(each.status for each in report.findings),
        findings=sorted(report.findings, key=lambda each: _ORDER[each.status]),
        quality=report.quality[:_SHOWN],
        features=report.drift.features[:_SHOWN] if report.drift else [],
        pictures=pictures,
        consecutive=consecutive,
        assumption=ASSUMPTION,
    )
