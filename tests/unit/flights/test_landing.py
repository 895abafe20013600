from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_mlops_provider.exceptions import DataError
from flights.landing import flights_of, land_month


def test_a_month_lands_once(tmp_path: Path) -> None:
    first = land_month(str(tmp_path), "2013-02")
    before = {path: Path(path).stat().st_mtime_ns for path in first}
    assert land_month(str(tmp_path), "2013-02") == first
    assert {path: Path(path).stat().st_mtime_ns for path in first} == before
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "landing/flights/2013-02.parquet",
        "landing/planes/planes.parquet",
        "landing/weather/2013-02.parquet",
    ]
    assert pq.read_schema(first[0]).field("event_timestamp").type == pa.timestamp("us", tz="UTC")


def test_flights_know_their_outcome_only_after_the_decision() -> None:
    flights = flights_of("2013-07")
    assert flights["flight_id"].is_unique
    assert flights["event_timestamp"].is_monotonic_increasing
    assert flights["event_timestamp"].dt.strftime("%Y-%m").unique().tolist() == ["2013-07"]
    labelled = flights.dropna(subset="late")
    assert (labelled["label_time"] > labelled["sched_dep"] - pd.Timedelta(hours=1)).all()
    assert flights.loc[flights["late"].isna(), "label_time"].isna().all()
    assert 0.29 < labelled["late"].mean() < 0.33


def test_local_hour_and_utc_agree_across_the_change_to_summer_time() -> None:
    for month in ("2013-01", "2013-03", "2013-07"):
        flights = flights_of(month)
        local = flights["sched_dep"].dt.tz_convert("America/New_York")
        assert (local.dt.hour == flights["dep_hour"]).all()
        assert (local.dt.dayofweek == flights["day_of_week"]).all()


def test_unknown_months_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2014-01.*2013-01..2013-12"):
        land_month(str(tmp_path), "2014-01")
    assert not list(tmp_path.iterdir())
