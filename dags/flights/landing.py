"""What arrives month by month: the year replayed as if it were happening.

``land_month(workspace, "2013-02")`` puts down the flights and the weather of February, as an
upstream system would once the month is over. A month is a month in UTC, so that it matches the
data intervals of Airflow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import pandas as pd

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.workspace import atomic_path, exists, join
from flights.raw import read_raw

MONTHS = [f"2013-{month:02}" for month in range(1, 13)]
LATE_MINUTES = 15
DECISION = pd.Timedelta(hours=1)
"""How long before the scheduled departure a prediction is asked for."""
_TAXI = pd.Timedelta(hours=1)
_WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]


def land_month(workspace: str, month: str) -> list[str]:
    """Write what arrives with ``month`` under ``{workspace}/landing``; return all its files.

    Files that are there already stay as they are, so a second call changes nothing.

    Args:
        workspace: fsspec URI of the workspace.
        month: ``2013-01`` to ``2013-12``.

    Raises:
        DataError: the year has no such month.
    """
    if month not in MONTHS:
        raise DataError(f"There are no flights for {month!r}. Expected {MONTHS[0]}..{MONTHS[-1]}.")
    files: dict[str, Callable[[], pd.DataFrame]] = {
        f"flights/{month}": partial(flights_of, month),
        f"weather/{month}": partial(weather_of, month),
        "planes/planes": planes,
    }
    return [_land(join(workspace, "landing", f"{name}.parquet"), of) for name, of in files.items()]


def flights_of(month: str) -> pd.DataFrame:
    """Return the flights whose decision time lies in ``month``, a row each, oldest first.

    ``late`` is 1 if the plane arrived more than 15 minutes late, else 0; it is null, with
    ``label_time``, for the cancelled and diverted, which never arrived. ``label_time`` is when
    the outcome is known: departure, time in the air and an hour for taxiing.
    """
    raw = read_raw("flights.csv.zip")
    sched_dep = pd.to_datetime(raw["time_hour"]) + pd.to_timedelta(raw["minute"], unit="min")
    day = pd.to_datetime(raw[["year", "month", "day"]])
    flown = pd.to_timedelta(raw["dep_delay"] + raw["air_time"], unit="min")
    label_time = (sched_dep + flown + _TAXI).where(raw["arr_delay"].notna())
    frame = pd.DataFrame(
        {
            "flight_id": _flight_ids(raw, day),
            "event_timestamp": sched_dep - DECISION,
            "sched_dep": sched_dep,
            **{name: raw[name] for name in ("carrier", "flight", "tailnum", "origin", "dest")},
            "distance": raw["distance"],
            "dep_hour": raw["hour"],
            "day_of_week": day.dt.dayofweek,
            "late": _late(raw["arr_delay"]),
            "label_time": label_time,
        }
    )
    return _in_month(frame, month).sort_values(["event_timestamp", "flight_id"])


def weather_of(month: str) -> pd.DataFrame:
    """Return the weather of each airport and hour that became known in ``month``.

    An hour's observation is made within the hour, so it counts as known at its end.
    """
    raw = read_raw("weather.csv")
    known = pd.to_datetime(raw["time_hour"]) + pd.Timedelta(hours=1)
    frame = raw[["origin", *_WEATHER]].assign(event_timestamp=known)
    return _in_month(frame, month).sort_values(["event_timestamp", "origin"])


def planes() -> pd.DataFrame:
    """Return tail number, year built, seats and engines of each plane."""
    return read_raw("planes.csv")[["tailnum", "year", "seats", "engines"]]


def _flight_ids(raw: pd.DataFrame, day: pd.Series[pd.Timestamp]) -> pd.Series[str]:
    number = raw["carrier"] + raw["flight"].astype(str)
    return number + "-" + raw["origin"] + "-" + day.dt.strftime("%Y%m%d")


def _late(arr_delay: pd.Series[float]) -> pd.Series[int]:
    return (arr_delay > LATE_MINUTES).astype("Int8").where(arr_delay.notna())


def _in_month(frame: pd.DataFrame, month: str) -> pd.DataFrame:
    start = pd.Timestamp(month, tz="UTC")
    times = frame["event_timestamp"]
    return frame[(times >= start) & (times < start + pd.offsets.MonthBegin())]


def _land(uri: str, rows: Callable[[], pd.DataFrame]) -> str:
    if not exists(uri):
        with atomic_path(uri) as temporary:
            # Feast on DuckDB cannot read pandas' nanoseconds
            rows().to_parquet(temporary, index=False, coerce_timestamps="us")
    return uri


def main() -> None:
    """Land the months named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m flights.landing", description=__doc__)
    parser.add_argument("months", nargs="+", metavar="YYYY-MM")
    parser.add_argument("--workspace", required=True)
    arguments = parser.parse_args()
    for month in arguments.months:
        print(*land_month(arguments.workspace, month), sep="\n")


if __name__ == "__main__":
    main()
