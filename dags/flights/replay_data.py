"""The year as it was known at any moment of it: flights, their features, and labels that came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from airflow_mlops_provider.steps.snapshot import read_dataset, snapshot_dataset, write_dataset
from airflow_mlops_provider.workspace import join
from flights.columns import ENTITY, FEATURES, TARGET, TIME
from flights.features import ROUTE, build_feature_sources, source_uri
from flights.landing import land_month
from flights.months import training_window

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef

LABEL_TIME = "label_time"
_VIEWS = {
    "weather_by_origin": (["origin"], pd.Timedelta(hours=6)),
    "route_stats": (ROUTE, pd.Timedelta(days=7)),
    "planes": (["tailnum"], None),
}
"""Join keys and longest age of each feature view, as in ``feature_repo/definitions.py``."""


@dataclass(frozen=True)
class Landed:
    """A month as it turned out."""

    month: str
    n: int
    n_arrived: int
    late_rate: float
    """Of the flights that arrived."""


def land_year(workspace: str, months: Sequence[str]) -> None:
    """Let ``months`` arrive, and compute the feature sources of all of them.

    A row of a source holds only what had happened by its own time, so it does not matter that
    later months have landed, too.
    """
    for month in months:
        land_month(workspace, month)
    build_feature_sources(workspace)


def landed(workspace: str, month: str) -> Landed:
    """Return how many flights of ``month`` there were, and how many of them came late."""
    late = pd.read_parquet(join(workspace, "landing", "flights", f"{month}.parquet"))[TARGET]
    return Landed(month, len(late), int(late.count()), float(late.mean()))


def end_of(month: str) -> pd.Timestamp:
    """Return the first moment after ``month``, UTC."""
    return pd.Timestamp(month, tz="UTC") + pd.offsets.MonthBegin()


def flights_between(workspace: str, start: str, end: str) -> pd.DataFrame:
    """Return the flights of ``[start, end)`` with the features known at their decision time."""
    flights = snapshot_dataset(
        join(workspace, "landing", "flights", "*.parquet"),
        name="flights",
        workspace=workspace,
        time_column=TIME,
        window_start=start,
        window_end=end,
    )
    return with_features(read_dataset(flights), workspace)


def with_features(flights: pd.DataFrame, workspace: str) -> pd.DataFrame:
    """Add the features to ``flights``, as of each flight's own time, in the order of time."""
    joined = flights.sort_values([TIME, ENTITY])
    for view, (keys, oldest) in _VIEWS.items():
        source = pd.read_parquet(source_uri(workspace, view)).sort_values(TIME, kind="stable")
        joined = pd.merge_asof(joined, source, on=TIME, by=keys, tolerance=oldest)
    return joined


def training_set(workspace: str, month: str) -> DatasetRef:
    """Keep what could be learned from as ``month`` ended: it and the two months before.

    Labels that came later are missing, as they were then.
    """
    window = training_window(month, workspace=workspace)
    frame = flights_between(workspace, window["start"], window["end"])
    known = frame[LABEL_TIME] < end_of(month)
    return write_dataset(
        frame.assign(**{TARGET: frame[TARGET].where(known)})[[ENTITY, TIME, *FEATURES, TARGET]],
        name="training_set",
        workspace=workspace,
        source="landed flights",
        window_start=window["start"],
        window_end=window["end"],
    )


def labels_known(flights: pd.DataFrame, month: str, workspace: str) -> DatasetRef:
    """Keep the labels of ``flights`` that had come as ``month`` ended."""
    known = flights[flights[LABEL_TIME] < end_of(month)]
    return write_dataset(
        known[[ENTITY, TARGET, LABEL_TIME]], "labels", workspace, source="landed flights"
    )
