from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.features.freshness import stale_views
from airflow_mlops_provider.steps.features.materialize import _pieces, as_duration, as_moment

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2013-01-01T12:00",
        "2013-01-01 12:00:00+00:00",
        "2013-01-01T17:30+05:30",
        NOON,
        NOON.replace(tzinfo=None),
        pd.Timestamp("2013-01-01 07:00", tz="America/New_York"),
    ],
)
def test_a_moment_may_be_written_in_many_ways(value):
    moment = as_moment("start", "materialize", value)
    assert moment == NOON
    assert moment.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("value", "message"),
    [("soon", "start.*ISO 8601"), ("", "may have no data interval"), (None, "no data interval")],
)
def test_what_is_no_moment_is_named(value, message):
    with pytest.raises(ParameterError, match=message):
        as_moment("start", "materialize", value)


@pytest.mark.parametrize("value", [21600, "21600", 21600.0, "PT6H", timedelta(hours=6)])
def test_a_duration_is_seconds_or_iso_8601(value):
    assert as_duration("overlap", "materialize", value) == timedelta(hours=6)


@pytest.mark.parametrize("value", [None, "", 0])
def test_no_duration_is_none(value):
    assert as_duration("overlap", "materialize", value) is None


@pytest.mark.parametrize("value", ["soon", -1, "-PT6H", "P1M", "P1Y2D", "nan", "inf", 1e300])
def test_what_is_no_duration_is_named(value):
    with pytest.raises(ParameterError, match=r"overlap parameter of materialize.*'P1D'"):
        as_duration("overlap", "materialize", value)


@given(
    seconds=st.integers(1, 10**6),
    chunk=st.none() | st.timedeltas(timedelta(seconds=1000), timedelta(days=30)),
)
def test_pieces_are_short_enough_and_leave_nothing_out(seconds, chunk):
    end = NOON + timedelta(seconds=seconds)
    pieces = list(_pieces(NOON, end, chunk))
    assert (pieces[0][0], pieces[-1][1]) == (NOON, end)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(pieces))
    assert all(timedelta(0) < until - begin <= (chunk or end - NOON) for begin, until in pieces)


@pytest.mark.parametrize(
    ("asked", "stale"),
    [
        ({"fresh_after": "2013-01-01T12:00"}, ["never"]),
        ({"fresh_after": "2013-01-01T12:00:01"}, ["never", "noon"]),
        ({"max_age": "PT1H"}, ["never"]),
        ({"max_age": 3599}, ["never", "noon"]),
    ],
)
def test_a_view_is_stale_before_its_end_reaches_what_was_asked(asked, stale):
    ends = {"never": None, "noon": NOON.isoformat()}
    assert stale_views(ends, now=NOON + timedelta(hours=1), **asked) == stale
