from __future__ import annotations

import datetime as dt
import subprocess
import sys
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.fingerprint import Fingerprint, logical_hash, schema_hash

DAYS = pd.date_range("2013-01-01", periods=6, freq="D", tz="UTC")


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "at": DAYS,
            "n": [1, 2, None, 4, 5, 6],
            "word": ["a", None, "b", "c", "nan", ""],
            "flag": [True, False, True, False, True, False],
        }
    )


CHANGES = {
    "a number": ("n", 0, 99.0),
    "null for a number": ("n", 0, None),
    "null for nan in text": ("word", 4, None),
    "null for an empty text": ("word", 5, None),
    "a flag": ("flag", 0, False),
    "a moment": ("at", 0, DAYS[0] + pd.Timedelta(microseconds=1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_changed_value_changes_the_logical_hash(frame: pd.DataFrame, change: str) -> None:
    column, row, value = CHANGES[change]
    changed = frame.copy()
    changed.loc[row, column] = value
    assert fingerprint(changed) != fingerprint(frame)


def test_a_repeated_row_changes_the_logical_hash(frame: pd.DataFrame) -> None:
    pair = pd.concat([frame, frame[:1], frame[:1]])
    assert len({fingerprint(frame), fingerprint(pair), fingerprint(pair[:-1])}) == 3


def test_the_schema_hash_knows_names_and_types_but_no_order() -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert schema_hash(schema) == schema_hash(pa.schema(reversed(list(schema))))
    assert schema_hash(schema) != schema_hash(pa.schema([("a", pa.int32()), ("b", pa.string())]))
    assert schema_hash(schema) != schema_hash(pa.schema([("a", pa.int64()), ("c", pa.string())]))


def fingerprint(frame: pd.DataFrame) -> str:
    return logical_hash(pa.Table.from_pandas(frame, preserve_index=False))


SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("word", pa.string()),
        ("x", pa.float64()),
        ("flag", pa.bool_()),
        ("day", pa.date32()),
        ("price", pa.decimal128(6, 2)),
    ]
)
ROW = st.tuples(
    st.none() | st.integers(-5, 5),
    st.none() | st.text(max_size=3),
    st.none() | st.floats(),
    st.none() | st.booleans(),
    st.none() | st.dates(dt.date(1, 1, 1)),
    st.none() | st.decimals(-99, 99, places=2),
)
ROWS = st.lists(ROW, min_size=1, max_size=20)


def table_of(rows: list[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, r, strict=True)) for r in rows], SCHEMA)


@settings(max_examples=50, deadline=None)
@given(ROWS, st.data())
def test_order_and_chunks_leave_the_logical_hash(
    rows: list[tuple[object, ...]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    columns = data.draw(st.permutations(SCHEMA.names))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    table = table_of(rows)
    moved = table.take(np.array(order)).select(columns)
    fingerprint = Fingerprint(SCHEMA)
    for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        fingerprint.update(moved.slice(start, end - start))
    assert fingerprint.hexdigest() == logical_hash(moved) == logical_hash(table)


@settings(max_examples=100, deadline=None)
@given(ROWS, ROW, st.data())
def test_a_changed_dropped_or_doubled_row_changes_the_logical_hash(
    rows: list[tuple[object, ...]], other: tuple[object, ...], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(SCHEMA) - 1))
    before = logical_hash(table_of(rows))
    assert logical_hash(table_of([*rows, rows[place]])) != before
    assert logical_hash(table_of(rows[:place] + rows[place + 1 :])) != before
    row = [*rows[place]]
    row[column] = other[column]
    changed = table_of([*rows[:place], tuple(row), *rows[place + 1 :]])
    one, two = table_of([rows[place]])[column][0], changed[column][place]
    assert (logical_hash(changed) == before) == (one.equals(two) or both_nan_or_zero(one, two))


def both_nan_or_zero(one: pa.Scalar, two: pa.Scalar) -> bool:
    values = one.as_py(), two.as_py()
    return all(v != v for v in values) or values == (0, 0)


def test_values_of_two_columns_do_not_change_places_unseen() -> None:
    one = pa.table({"a": [1, 2], "b": [2, 1]})
    assert logical_hash(one) != logical_hash(pa.table({"a": [1, 2], "b": [1, 2]}))
    assert logical_hash(one) == logical_hash(pa.table({"b": [1, 2], "a": [2, 1]}))


def test_zeros_and_nans_are_equal_but_nan_is_not_null() -> None:
    nans = np.array([0x7FF8000000000000, 0xFFF8000000000001], dtype=np.uint64).view(float)
    assert logical_hash(pa.table({"x": [0.0, nans[0]]})) == logical_hash(
        pa.table({"x": [-0.0, nans[1]]})
    )
    assert logical_hash(pa.table({"x": [0.0, None]})) != logical_hash(
        pa.table({"x": [0.0, float("nan")]})
    )


ODD = {
    "uuid": [uuid.UUID(int=1), uuid.UUID(int=2)],
    "decimal": [Decimal("1.50"), Decimal("1.51")],
    "bytes": [b"a", b"b"],
    "fixed": pa.array([b"a", b"b"], pa.binary(1)),
    "date64": pa.array([0, 86_400_000], pa.date64()),
    "time32": pa.array([1, 2], pa.time32("s")),
    "time64": pa.array([1, 2], pa.time64("us")),
    "duration": pa.array([1, 2], pa.duration("us")),
    "half": pa.array([1.0, 2.0], pa.float16()),
    "unsigned": pa.array([2**64 - 1, 2**64 - 2], pa.uint64()),
    "dictionary": pa.array(["a", "b"]).dictionary_encode(),
    "view": pa.array(["a", "b"], pa.string_view()),
}


@pytest.mark.parametrize("kind", ODD)
def test_each_type_is_told_apart_by_its_values_and_nulls(kind: str) -> None:
    one, two = pa.table({"x": ODD[kind]})["x"].combine_chunks()
    seen = {
        logical_hash(pa.table({"x": pa.array([a, b], one.type)}))
        for a, b in [(one, two), (one, one), (one, None), (None, None)]
    }
    assert len(seen) == 4


def test_a_dictionary_or_a_view_is_its_values() -> None:
    plain, *others = (
        logical_hash(pa.table({"x": column}))
        for column in (pa.array(["a", "b"]), ODD["dictionary"], ODD["view"])
    )
    assert others == [plain, plain]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1], [2]]),
        pa.array([{"a": 1}]),
        pa.nulls(1, pa.month_day_nano_interval()),
        pa.array(pd.period_range("2013-01", periods=1, freq="M")),
    ],
)
def test_values_that_are_no_single_ones_are_refused_by_name(column: pa.Array) -> None:
    with pytest.raises(DataError, match=r"'nest'.* hold nested values"):
        logical_hash(pa.table({"nest": column}))


GOLDEN = "6eec78e6c731b6f44d34e572d336e4951fb6747b7482f65ac13166b5813a56bf"


def test_the_logical_hash_is_the_same_in_every_process_and_release() -> None:
    code = (
        "import pyarrow as pa\n"
        "from airflow_mlops_provider.steps.fingerprint import logical_hash\n"
        "table = pa.table({'n': [1, None], 'word': ['a', 'ü'], 'x': [0.5, None]})\n"
        "print(logical_hash(table))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert output.decode().strip() == GOLDEN
