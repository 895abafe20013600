"""Which months a run is about."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.workspace import join, listing

TRAINING_MONTHS = 3


def landed_months(workspace: str) -> list[str]:
    """Return the months whose flights have arrived, oldest first."""
    files = listing(join(workspace, "landing", "flights", "*.parquet"))
    return sorted(file.rpartition("/")[2].removesuffix(".parquet") for file in files)


def training_window(
    month: str | None, interval_start: datetime | None = None, workspace: str | None = None
) -> dict[str, str]:
    """Return the newest month to learn from, and the window of up to three months it ends.

    Args:
        month: Asked for by a person; comes first.
        interval_start: Of the data interval, in a scheduled run; comes second. Without both,
            the newest month that landed.
        workspace: fsspec URI of the workspace; by default that of this Airflow.

    Raises:
        DataError: that month has not landed.
    """
    workspace = workspace or workspace_uri()
    landed = landed_months(workspace)
    if month is None and interval_start is not None:
        month = interval_start.strftime("%Y-%m")
    month = month or (landed[-1] if landed else None)
    if month not in landed:
        raise DataError(
            f"Expected the flights of {month or 'any month'} in {workspace}/landing, found "
            f"{landed or 'none'}. Land them with `python -m flights.landing {month or '2013-01'}`."
        )
    start = pd.Timestamp(month, tz="UTC")
    first = pd.Timestamp(landed[max(0, landed.index(month) - TRAINING_MONTHS + 1)], tz="UTC")
    end = start + pd.offsets.MonthBegin(1)
    return {"month": month, "start": first.isoformat(), "end": end.isoformat()}
