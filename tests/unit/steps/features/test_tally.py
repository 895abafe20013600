from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.steps.features.tally import Pair, Tally, as_logged, same

AT = datetime(2024, 1, 1, tzinfo=UTC)
NAN = float("nan")
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(),
    st.lists(st.integers() | st.floats()),
)


def tally(*pairs, tolerance=1e-6, max_share=0.0, count_expired=True, expired=False):
    counted = Tally("level", tolerance, count_expired)
    for n, (offline, online) in enumerate(pairs):
        counted.add(Pair({"tank": n}, AT, offline, online, expired))
    return counted.result(max_share)


@pytest.mark.parametrize(
    ("offline", "online"),
    [
        (1, 1.0),
        (True, 1),
        (0.1, 0.1 + 1e-9),
        (0.0, 1e-13),
        (float("inf"), float("inf")),
        (2**53, float(2**53)),
        ("red", "red"),
        (b"x", b"x"),
        ([1, NAN], [1.0, None]),
        (datetime(2024, 1, 1, 12, 0, 0, 700_000), datetime(2024, 1, 1, 12, tzinfo=UTC)),
        (AT, AT.astimezone(timezone(timedelta(hours=5)))),
        (date(2024, 1, 1), AT),
    ],
)
def test_these_are_the_same(offline, online):
    assert same(offline, online, 1e-6)
    assert same(online, offline, 1e-6)


@pytest.mark.parametrize(
    ("offline", "online"),
    [
        (1, None),
        (2**60, 2**60 + 1),
        (1.0, 1.00001),
        (float("inf"), 1.0),
        (0.0, 1e-6),
        ("1", 1),
        ("red", "Red"),
        ("x", b"x"),
        ([1, 2], [1]),
        ([1, 2], [2, 1]),
        (AT, AT + timedelta(seconds=1)),
        (AT, AT.isoformat()),
    ],
)
def test_these_are_different(offline, online):
    assert not same(offline, online, 1e-6)
    assert not same(online, offline, 1e-6)


def test_each_kind_of_difference_is_counted():
    found = tally((1.0, 1.0), (1.0, 3.5), (1.0, None), (None, 2.0), (None, None), (NAN, None))
    assert (found.verdict, found.n, found.n_different, found.share) == ("skewed", 4, 3, 0.75)
    assert (found.n_only_offline, found.n_only_online) == (1, 1)
    assert found.largest_difference == 2.5
    assert [(each.offline, each.online) for each in found.examples] == [
        ("1.0", "3.5"),
        ("1.0", None),
        (None, "2.0"),
    ]


def test_a_share_of_exactly_the_limit_is_no_skew():
    pairs = [(1, 1)] * 3 + [(1, 2)]
    assert tally(*pairs, max_share=0.25).verdict == "same"
    assert tally(*pairs, max_share=0.24).verdict == "skewed"


def test_nulls_on_both_sides_are_no_evidence():
    assert tally((None, NAN)).verdict == "insufficient_data"


@pytest.mark.parametrize(
    ("pairs", "types", "changed"),
    [
        ([(1, 1.0), (2, 2)], ("int", "float"), False),
        ([("1", 1)], ("text", "int"), True),
        ([(None, 1), ("1", None)], ("text", "int"), False),
    ],
)
def test_types_are_told_and_compared_where_both_have_a_value(pairs, types, changed):
    found = tally(*pairs, max_share=1.0)
    assert (found.offline_type, found.online_type) == types
    assert found.type_changed is changed
    assert (found.verdict == "skewed") is changed


def test_what_expired_is_a_difference_unless_told_otherwise():
    assert tally((None, 1), expired=True).n_expired == 1
    assert tally((None, 1), expired=True).verdict == "skewed"
    left_out = tally((None, 1), expired=True, count_expired=False)
    assert (left_out.verdict, left_out.n_expired) == ("insufficient_data", 1)
    assert tally((2, 1), expired=True, count_expired=False).n_different == 1


def test_the_record_is_bounded_and_has_no_infinite_numbers():
    found = tally(*[("x" * 10_000, float("inf"))] * 100, (1.0, float("inf")))
    assert len(found.examples) == 5
    assert found.largest_difference is None
    assert len(str(found.to_xcom())) < 2000


def test_logs_hold_times_and_lists_as_text():
    assert as_logged(AT.isoformat(), AT) == AT
    assert as_logged("[1, 2]", [1, 2]) == [1, 2]
    assert as_logged("soon", AT) == "soon"
    assert as_logged("[1", [1]) == "[1"
    assert as_logged("1", "1") == "1"


@given(value=VALUES, other=VALUES)
def test_any_value_equals_itself_and_any_two_make_a_record(value, other):
    assert tally((value, value)).n_different == 0
    tally((value, other)).to_xcom()
    assert tally((value, other)).n_different == tally((other, value)).n_different
