from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.workspace import write_bytes
from flights.months import landed_months, training_window


@pytest.fixture
def landed(workspace):
    for month in ("2013-04", "2013-01", "2013-02", "2013-03"):
        write_bytes(f"{workspace}/landing/flights/{month}.parquet", b"")
    return workspace


def test_what_has_landed_is_listed_in_order(landed):
    assert landed_months(landed) == ["2013-01", "2013-02", "2013-03", "2013-04"]


@pytest.mark.parametrize(
    ("month", "interval_start", "expected"),
    [
        ("2013-02", None, ("2013-02", "2013-01-01", "2013-03-01")),
        ("2013-01", datetime(2013, 3, 1, tzinfo=UTC), ("2013-01", "2013-01-01", "2013-02-01")),
        (None, datetime(2013, 3, 1, tzinfo=UTC), ("2013-03", "2013-01-01", "2013-04-01")),
        (None, None, ("2013-04", "2013-02-01", "2013-05-01")),
    ],
    ids=["asked for", "asked for in a scheduled run", "scheduled", "newest"],
)
def test_the_window_ends_with_its_month(landed, month, interval_start, expected):
    window = training_window(month, interval_start)
    assert (window["month"], window["start"][:10], window["end"][:10]) == expected


def test_a_month_that_has_not_landed_is_named_with_its_remedy(landed):
    with pytest.raises(DataError, match=r"flights\.landing 2013-07"):
        training_window("2013-07")


def test_an_empty_landing_is_said(workspace):
    with pytest.raises(DataError, match="found none"):
        training_window(None)
