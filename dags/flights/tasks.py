"""TaskFlow tasks that several DAGs share. Their imports wait until they run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import Asset, AssetWatcher, Param, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.timetables.trigger import CronTriggerTimetable
from dateutil.relativedelta import relativedelta

from airflow_mlops_provider.assets import drift_asset
from airflow_mlops_provider.triggers.data import NewFilesEventTrigger
from flights.settings import ENDPOINT, LANDED_FLIGHTS

MONTH = Param(None, type=["null", "string"], description="Newest month, like 2013-02")
"""The form field of the month; empty means the data interval's, else the newest that landed."""

MONTHLY = CronTriggerTimetable("0 0 1 * *", timezone="UTC", interval=relativedelta(months=1))
"""When a month is over, with that month as the data interval."""

NEW_FLIGHTS = Asset(
    "new_flights",
    watchers=[AssetWatcher(name="landing", trigger=NewFilesEventTrigger(path=LANDED_FLIGHTS))],
)
"""An event for each month that lands."""


@task
def choose_window(
    params: dict[str, Any], data_interval_start: datetime | None = None
) -> dict[str, str]:
    """Give the newest month to use and the window that it ends: month, start and end.

    A scheduled run for a month that never landed is skipped; a person is told.
    """
    from airflow_mlops_provider.exceptions import DataError
    from flights.months import training_window

    try:
        return training_window(params["month"], data_interval_start)
    except DataError as error:
        if params["month"] is None and data_interval_start is not None:
            raise AirflowSkipException(str(error)) from error
        raise


@task
def build_features() -> None:
    """Compute the feature sources from what has landed."""
    from flights.features import build_feature_sources

    build_feature_sources()


@task(outlets=[drift_asset(ENDPOINT)])
def retrain(report: dict[str, Any], outlet_events: Any = None) -> None:
    """Ask for a training, with the report of the validation as evidence."""
    outlet_events[drift_asset(ENDPOINT)].extra = report


@task
def stop(report: dict[str, Any]) -> None:
    """Fail the run: a person has to look."""
    raise AirflowFailException(
        f"The new flights are broken: {len(report['failures'])} expectations of suite "
        f"{report['suite']!r} do not hold. Look at the Data Docs of the validation."
    )
