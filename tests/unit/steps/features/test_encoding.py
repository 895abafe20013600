from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import extract_text_and_num
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.steps.features.encoding import _entity_keys, encode_values

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = [
    (ValueType.INT32, pa.int32(), INT32),
    (ValueType.INT64, pa.int64(), INT64),
    (ValueType.INT64, pa.int16(), st.integers(-9, 9)),
    (ValueType.FLOAT, pa.float32(), st.floats(width=32)),
    (ValueType.FLOAT, pa.float64(), st.floats(width=32)),
    (ValueType.DOUBLE, pa.float64(), st.floats()),
    (ValueType.DOUBLE, pa.int64(), st.integers(-(2**53), 2**53)),
    (ValueType.STRING, pa.string(), TEXT),
    (ValueType.STRING, pa.large_string(), TEXT),
    (ValueType.BYTES, pa.binary(), st.binary(min_size=1)),
    (ValueType.BOOL, pa.bool_(), st.booleans()),
]


def of_feast(values, kind):
    """Feast's bytes and text of Python values."""
    messages = python_values_to_proto_values(values, kind)
    return [(each.SerializeToString(), extract_text_and_num(each, False)[0]) for each in messages]


def of_ours(column, kind):
    encoded = encode_values(column, kind, with_texts=True)
    assert encode_values(column, kind, with_texts=False).values == encoded.values
    return list(zip(encoded.values, encoded.texts, strict=True))


@pytest.mark.parametrize(("kind", "arrow", "values"), SCALARS)
@given(data=st.data())
def test_values_and_nulls_have_the_bytes_and_texts_of_feast(kind, arrow, values, data):
    drawn = data.draw(st.lists(st.none() | values, max_size=20))
    column = pa.array(drawn, arrow)
    assert of_ours(column, kind) == of_feast(column.to_pylist(), kind)


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        (ValueType.UNIX_TIMESTAMP, pa.array([1, None, -(10**9)], pa.timestamp("s", "UTC"))),
        (ValueType.DOUBLE_LIST, pa.array([[0.5, 1.0], None, []])),
        (ValueType.STRING, pa.array([1.5, 2.0])),
        (ValueType.DECIMAL, pa.array(["1.10", None])),
        (ValueType.INT64, pa.array([True, False])),
    ],
)
def test_other_types_go_through_feast(kind, column):
    assert of_ours(column, kind) == of_feast(column.to_numpy(zero_copy_only=False), kind)


def test_whole_numbers_from_floats_are_cut_and_their_nan_is_null():
    column = pa.array([1.9, -1.9, float("nan"), None])
    assert of_ours(column, ValueType.INT64) == of_feast([1, -1, None, None], ValueType.INT64)


def test_a_slice_of_a_column_gives_its_own_values():
    column = pa.array([1.0, None, 3.0, 4.0])
    assert of_ours(column[1:3], ValueType.DOUBLE) == of_feast([None, 3.0], ValueType.DOUBLE)
    text = pa.array(["a", None, "b"])
    assert of_ours(text[1:], ValueType.STRING) == of_feast([None, "b"], ValueType.STRING)


def test_empty_bytes_are_a_value_whatever_the_other_rows_hold():
    """Feast writes nulls for them if no row of the column has more."""
    encoded = encode_values(pa.array([b"", None]), ValueType.BYTES, with_texts=False)
    assert encoded.values == [b"\n\x00", b""]


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        (ValueType.INT32, pa.array([2**31])),
        (ValueType.INT64, pa.array([float("inf")])),
        (ValueType.INT64, pa.array([2**63], pa.uint64())),
        (ValueType.BYTES, pa.array(["text"])),
    ],
)
def test_what_a_type_cannot_hold_is_refused(kind, column):
    with pytest.raises((ValueError, AssertionError, TypeError)):
        encode_values(column, kind, with_texts=False)


KEYS = [
    (ValueType.INT64, pa.int64(), INT64),
    (ValueType.INT32, pa.int32(), INT32),
    (ValueType.STRING, pa.string(), TEXT),
    (ValueType.BYTES, pa.binary(), st.binary(min_size=1)),
]


@given(data=st.data())
def test_entity_keys_have_the_bytes_of_feast(data):
    rows = data.draw(st.integers(1, 5))
    names = data.draw(st.lists(st.sampled_from(["b", "a", "ä", "user"]), min_size=1, unique=True))
    picked = [data.draw(st.sampled_from(KEYS)) for _ in names]
    drawn = [data.draw(st.lists(values, min_size=rows, max_size=rows)) for _, _, values in picked]
    batch = pa.record_batch(
        [pa.array(each, arrow) for each, (_, arrow, _) in zip(drawn, picked, strict=True)],
        names=names,
    )
    kinds = {name: kind for name, (kind, _, _) in zip(names, picked, strict=True)}
    messages = [
        python_values_to_proto_values(each, kind)
        for each, (kind, _, _) in zip(drawn, picked, strict=True)
    ]
    assert _entity_keys(batch, kinds) == [
        serialize_entity_key(EntityKey(join_keys=names, entity_values=row))
        for row in zip(*messages, strict=True)
    ]


def test_keys_of_other_types_go_through_feast():
    moments = pa.array([np.datetime64("2024-01-01", "s")])
    batch = pa.record_batch([moments], names=["at"])
    value = python_values_to_proto_values([pd.Timestamp("2024-01-01")], ValueType.UNIX_TIMESTAMP)
    assert _entity_keys(batch, {"at": ValueType.UNIX_TIMESTAMP}) == [
        serialize_entity_key(EntityKey(join_keys=["at"], entity_values=value))
    ]
