"""One check for drift, from the data to what is kept of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import DatasetRef, DriftReport
from airflow_mlops_provider.steps.drift.compare import compare
from airflow_mlops_provider.steps.drift.evidently import evidently_page
from airflow_mlops_provider.steps.drift.history import publish_check
from airflow_mlops_provider.steps.drift.page import drift_page, pictures
from airflow_mlops_provider.workspace import checked_name

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.track import TaskRun

PAGE = "drift_report.html"
RENDERERS = ("html", "evidently")


@dataclass(frozen=True)
class DriftCheck:
    """What a check found, and what a person looks at."""

    name: str
    report: DriftReport
    page: str
    pictures: Mapping[str, bytes]
    """Feature name to PNG."""


def check_drift(
    current: DatasetRef | str,
    profile_uri: str,
    *,
    name: str | None,
    workspace: str,
    window: str,
    checked_at: datetime,
    columns: Sequence[str] | None = None,
    max_share: float = 0.3,
    weights: Mapping[str, float] | None = None,
    domain_classifier: bool = False,
    consecutive: int = 2,
    renderer: str = "html",
) -> DriftCheck:
    """Compare a window with a profile, keep what was found, and draw it.

    Args:
        current: A dataset, or a path, glob or URI of Parquet or CSV files.
        profile_uri: What ``profile_dataset`` returned.
        name: What the windows are windows of; None takes the dataset's name.
        workspace: fsspec URI of the workspace, where the check is kept.
        window: End of the window, ISO 8601; a check of the same window is replaced.
        checked_at: The time of the check.
        columns: Features to look at; None means all of the profile.
        max_share: From this share of drifted features on, the dataset drifted.
        weights: Feature name to its weight in that share; None weighs all the same.
        domain_classifier: Whether to train a classifier that tells new rows from old.
        consecutive: From so many drifted windows in a row on, retraining is asked for.
        renderer: ``html``, or ``evidently`` for a page of that package, which concludes from
            any number of rows and is therefore ours if there are too few.

    Raises:
        DataError: the profile or the data cannot be used.
        ParameterError: a parameter is out of range, or files have no ``name``.
    """
    if renderer not in RENDERERS:
        raise ParameterError.of("renderer", "check_drift", f"one of {RENDERERS}", renderer)
    name = _name(name, current)
    comparison = compare(
        current,
        profile_uri,
        columns=columns,
        max_share=max_share,
        weights=weights,
        domain_classifier=domain_classifier,
    )
    drawn = pictures(comparison)
    page = None
    if renderer == "evidently" and comparison.report.verdict != "insufficient_data":
        page = evidently_page(current, profile_uri, columns=columns, max_share=max_share)
    report = publish_check(
        comparison.report,
        name=name,
        workspace=workspace,
        window=window,
        consecutive=consecutive,
        checked_at=checked_at,
    )
    ours = drift_page(
        report, drawn, name=name, max_share=max_share, consecutive=consecutive, window=window
    )
    return DriftCheck(name, report, page or ours, drawn)


def log_check(run: TaskRun, check: DriftCheck) -> None:
    """Keep record, figures, page and pictures in the MLflow run of the task."""
    run.log_record(check.report)
    psis = [each.psi for each in check.report.features if each.psi is not None]
    figures = {"share_drifted": check.report.share_drifted}
    run.log_metrics({**figures, "max_psi": max(psis)} if psis else figures)
    run.log_page(check.page, PAGE)
    if not check.pictures:
        return
    with TemporaryDirectory() as folder:
        for place, (feature, png) in enumerate(check.pictures.items(), 1):
            Path(folder, f"{place:02}-{_file_name(feature)}.png").write_bytes(png)
        run.client.log_artifacts(run.run_id, folder, "drift")


def _name(name: str | None, current: DatasetRef | str) -> str:
    known = current.name if isinstance(current, DatasetRef) else None
    if not (name or known):
        raise ParameterError.of("name", "check_drift", "given when files are looked at", name)
    return checked_name(name or known, "name", "check_drift")


def _file_name(feature: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", feature)[:60]
