"""Drift checks of consecutive windows, and when they ask for retraining.

Each check lies under its window, so that a retry, a cleared task or a backfill of the window
replaces it. Windows are in order of their end. A check says what it knew: one of an older window
that comes later changes the streak of the newer ones only when these are checked again.

The sensor and its trigger both ask :func:`find_drift`, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import chain, islice, takewhile
from typing import Any

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.records import DriftReport
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


def publish_check(
    report: DriftReport,
    *,
    name: str,
    workspace: str,
    window: str | None,
    consecutive: int,
    checked_at: datetime,
) -> DriftReport:
    """Keep a check under its window, whole or not at all.

    Args:
        report: What the check found.
        name: What the windows are windows of.
        workspace: It lies under ``reports/drift/{name}/``.
        window: End of the window, ISO 8601 (naive means UTC). None takes ``checked_at``, and
            then nothing is replaced: the caller should name what each retry sees alike.
        consecutive: From so many drifted windows in a row on, retraining is asked for; from 1
            to 100.
        checked_at: The time of the check.

    Returns:
        The report with ``streak``, ``retrain`` and ``report_uri``. Windows with too little data
        neither break a streak nor add to it, and ask for nothing.

    Raises:
        ParameterError: ``name``, ``window`` or ``consecutive`` cannot be used.
    """
    checked_streak(consecutive, "publish_check")
    folder = _folder(workspace, name)
    key = key_of(checked_time(window, "window", "publish_check") or utc(checked_at))
    streak = _streak(report.verdict, folder, key)
    published = replace(
        report,
        streak=streak,
        retrain=report.verdict == "drifted" and streak >= consecutive,
        report_uri=uri_of(folder, key),
    )
    value = {"checked_at": utc(checked_at).isoformat(), "report": published.to_xcom()}
    write_json(uri_of(folder, key), value)
    forget_oldest(folder, key)
    return published


def find_drift(workspace: str, name: str, *, newer_than: str | None = None) -> DriftReport | None:
    """Return the check of the newest window if it asks for retraining, else None.

    Windows with too little data are passed over, as they say nothing.

    Args:
        workspace: fsspec URI of the workspace.
        name: What the windows are windows of.
        newer_than: ISO 8601 time (naive means UTC); a check made then or before is old news.

    Raises:
        ParameterError: ``name`` cannot be used, or ``newer_than`` is no time.
    """
    since = checked_time(newer_than, "newer_than", "find_drift")
    checks = _checks(_folder(workspace, name))
    newest = next((check for check in checks if _verdict(check) != "insufficient_data"), None)
    if newest is None:
        return None
    if since and datetime.fromisoformat(newest["checked_at"]) <= since:
        return None
    report = DriftReport.from_xcom(newest["report"])
    return report if report.retrain else None


def _streak(verdict: str, folder: str, key: str) -> int:
    earlier = (_verdict(check) for check in _checks(folder, before=key))
    unbroken = takewhile(lambda each: each != "stable", chain([verdict], earlier))
    return sum(each == "drifted" for each in islice(unbroken, MAX_STREAK))


def _checks(folder: str, before: str | None = None) -> Iterator[dict[str, Any]]:
    """Give the checks of the windows before one (None: of all), newest first."""
    keys = [key for key in keys_of(folder) if before is None or key < before]
    return (_read(uri_of(folder, key)) for key in reversed(keys[-MAX_STREAK:]))


def _read(uri: str) -> dict[str, Any]:
    try:
        check = read_json(uri)
    except ValueError as error:
        raise DataError(f"{uri} is no drift check: {error}. Delete it.") from error
    if not isinstance(check, dict) or not {"checked_at", "report"} <= check.keys():
        raise DataError(f"{uri} is no drift check: {str(check)[:80]!r}. Delete it.")
    return check


def _verdict(check: dict[str, Any]) -> str:
    return str(check["report"]["verdict"])


def _folder(workspace: str, name: str) -> str:
    return join(workspace, "reports", "drift", checked_name(name, "name", "the drift check"))
