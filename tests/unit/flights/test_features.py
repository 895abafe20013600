from __future__ import annotations

import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import DataError
from flights.features import build_feature_sources, route_stats

ROUTE = {"origin": "JFK", "dest": "LAX", "carrier": "DL"}


def flights(*rows):
    """Flights of one route from (decision, landed, late)."""
    return pd.DataFrame(
        [
            {
                **ROUTE,
                "event_timestamp": pd.Timestamp(decided, tz="UTC"),
                "label_time": pd.Timestamp(landed, tz="UTC"),
                "late": late,
            }
            for decided, landed, late in rows
        ]
    )


def test_a_day_counts_only_what_had_landed_before_it():
    stats = route_stats(
        flights(
            ("2013-01-01 20:00", "2013-01-01 23:59", 1),
            ("2013-01-01 22:00", "2013-01-02 00:00", 0),
            ("2013-01-02 10:00", None, None),
            ("2013-01-09 10:00", "2013-01-09 15:00", 1),
        )
    ).set_index("event_timestamp")
    assert stats.index[0] == pd.Timestamp("2013-01-02", tz="UTC")
    assert stats.index[-1] == pd.Timestamp("2013-01-10", tz="UTC")
    assert stats["flights_7d"].tolist() == [1, 2, 2, 2, 2, 2, 2, 1, 1]
    assert stats["flights_28d"].tolist() == [1, 2, 2, 2, 2, 2, 2, 2, 3]
    assert stats["late_rate_7d"].tolist()[:2] == [1.0, 0.5]
    assert stats["late_rate_28d"].iloc[-1] == pytest.approx(2 / 3)


def test_real_route_stats_agree_with_counting_by_hand(landed):
    build_feature_sources(landed)
    stats = pd.read_parquet(f"{landed}/flights/features/route_stats.parquet")
    raw = pd.read_parquet(f"{landed}/landing/flights")
    for row in stats[stats["flights_7d"] > 0].sample(20, random_state=0).itertuples():
        route = raw[
            (raw["origin"] == row.origin)
            & (raw["dest"] == row.dest)
            & (raw["carrier"] == row.carrier)
        ]
        age = row.event_timestamp - route["label_time"]
        recent = route[(age > pd.Timedelta(0)) & (age <= pd.Timedelta(days=7))]
        assert row.flights_7d == len(recent)
        assert row.late_rate_7d == pytest.approx(recent["late"].mean())


def test_building_again_gives_the_same_rows(landed):
    first = [pd.read_parquet(uri) for uri in build_feature_sources(landed)]
    for before, uri in zip(first, build_feature_sources(landed), strict=True):
        pd.testing.assert_frame_equal(before, pd.read_parquet(uri))
        assert not before.duplicated(before.columns.intersection(KEYS)).any()


KEYS = ["event_timestamp", "origin", "dest", "carrier", "tailnum"]


def test_nothing_landed_is_said(tmp_path):
    with pytest.raises(DataError, match=r"No flights have landed.*flights\.landing"):
        build_feature_sources(str(tmp_path))
