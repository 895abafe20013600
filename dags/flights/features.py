"""Feature sources of the flights, computed from what has landed so far."""

from __future__ import annotations

import argparse

import fsspec
import pandas as pd

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.workspace import atomic_path, join

ROUTE = ["origin", "dest", "carrier"]
VIEWS = ("weather_by_origin", "route_stats", "planes")
_YEAR = 2013


def source_uri(workspace: str, view: str) -> str:
    """Return where the rows of a feature view lie."""
    return join(workspace, "flights", "features", f"{view}.parquet")


def build_feature_sources(workspace: str | None = None) -> list[str]:
    """Write the sources of all feature views anew; return their URIs.

    Args:
        workspace: fsspec URI of the workspace; by default that of this Airflow.

    Raises:
        DataError: nothing has landed yet.
    """
    workspace = workspace or workspace_uri()
    flights = _landed(workspace, "flights")
    months = sorted(flights["event_timestamp"].dt.strftime("%Y-%m").unique())
    frames = {
        "weather_by_origin": _landed(workspace, "weather"),
        "route_stats": route_stats(flights),
        "planes": plane_facts(_landed(workspace, "planes"), months),
    }
    for view, frame in frames.items():
        with atomic_path(source_uri(workspace, view)) as temporary:
            frame.to_parquet(temporary, index=False, coerce_timestamps="us")
    return [source_uri(workspace, view) for view in frames]


def route_stats(flights: pd.DataFrame) -> pd.DataFrame:
    """Return counts and late rates of the trailing 7 and 28 days, a row each route and day.

    The row of a day counts the flights that had landed before its midnight (UTC); the last is
    the day after the last flight. A rate without flights is missing.
    """
    landed = flights.dropna(subset=["late"])
    day = landed["label_time"].dt.floor("D").rename("event_timestamp")
    by_day = landed.groupby([day, *ROUTE])["late"].agg(["count", "sum"]).unstack(ROUTE)
    first, last = flights["event_timestamp"].min(), flights["event_timestamp"].max()
    days = pd.date_range(first.floor("D"), last.floor("D") + pd.Timedelta(days=1), freq="D")
    by_day = by_day.reindex(days, fill_value=0).fillna(0)
    columns = {}
    for n in (7, 28):
        trailing = by_day.rolling(n, min_periods=1).sum().shift(1, fill_value=0)
        count, late = (trailing[part].stack(ROUTE, future_stack=True) for part in ("count", "sum"))
        columns[f"late_rate_{n}d"] = late / count.where(count > 0)
        columns[f"flights_{n}d"] = count.astype("int64")
    stats = pd.DataFrame(columns).rename_axis(["event_timestamp", *ROUTE]).reset_index()
    return stats[stats["flights_28d"] > 0].reset_index(drop=True)


def plane_facts(planes: pd.DataFrame, months: list[str]) -> pd.DataFrame:
    """Return age in years, seats and engines of each plane, restated as each month begins.

    Restating them lets the window of any month carry them into the online store.
    """
    facts = planes.assign(age=_YEAR - planes["year"].astype(float))
    facts = facts[["tailnum", "age", "seats", "engines"]]
    restated = [facts.assign(event_timestamp=pd.Timestamp(month, tz="UTC")) for month in months]
    return pd.concat(restated, ignore_index=True)


def _landed(workspace: str, kind: str) -> pd.DataFrame:
    files = fsspec.open_files(join(workspace, "landing", kind, "*.parquet"), "rb")
    if not files:
        raise DataError(
            f"No {kind} have landed in {workspace}. Run `python -m flights.landing 2013-01` first."
        )
    frames = []
    for opened in files:
        with opened as file:
            frames.append(pd.read_parquet(file))
    return pd.concat(frames, ignore_index=True)


def main() -> None:
    """Build the sources in the workspace named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m flights.features", description=__doc__)
    parser.add_argument("--workspace", required=True)
    print(*build_feature_sources(parser.parse_args().workspace), sep="\n")


if __name__ == "__main__":
    main()
