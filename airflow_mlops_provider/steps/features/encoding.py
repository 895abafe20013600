"""Columns of a record batch as the bytes that Feast's online stores keep.

Feast makes a protobuf message of every value, row by row. Here numbers become bytes as whole
columns, other scalars once for each distinct value, and what has no short way (timestamps, lists,
maps, UUIDs) goes through Feast's own conversion. The bytes are the same.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.infra.key_encoding_utils import serialize_entity_key, serialize_entity_key_prefix
from feast.infra.online_stores.helpers import extract_text_and_num
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

from airflow_mlops_provider.exceptions import DataError

if TYPE_CHECKING:
    from feast import FeatureView

KEY_VERSION = 3
"""The only serialization of entity keys that is written here, and that Feast still writes."""
KEY = "__entity_key"


@dataclass(frozen=True)
class Encoded:
    """The values of one feature, in the order of the rows."""

    values: list[bytes]
    """Serialized ``Value`` messages; a null is the empty message."""
    texts: list[str | None]
    """What Feast keeps beside them for text search; empty unless asked for."""


@dataclass(frozen=True)
class Rows:
    """Rows ready for an online store; all lists have one entry for each row."""

    keys: list[bytes]
    times: list[datetime]
    """Event timestamps, naive, in UTC."""
    created: list[datetime | None]
    features: dict[str, Encoded]


def keyed(view: FeatureView, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Add the serialized entity keys as the column ``KEY``.

    Args:
        view: The feature view.
        batch: Its rows, with its names.

    Raises:
        DataError: a column is missing, or a join key has a null.
    """
    _require(view, batch)
    join_keys = {column.name: column.dtype.to_value_type() for column in view.entity_columns}
    return batch.append_column(KEY, pa.array(_entity_keys(batch, join_keys), pa.binary()))


def encode_rows(view: FeatureView, batch: pa.RecordBatch, *, with_texts: bool) -> Rows:
    """Encode what ``keyed`` gave.

    Raises:
        DataError: a feature has values that its declared type cannot hold.
    """
    source = view.batch_source
    assert source is not None
    created = source.created_timestamp_column
    return Rows(
        keys=batch.column(KEY).to_pylist(),
        times=_times(batch.column(source.timestamp_field)),
        created=_times(batch.column(created)) if created else [None] * batch.num_rows,
        features={
            feature.name: _feature(view, batch, feature, with_texts) for feature in view.features
        },
    )


def encode_values(column: pa.Array, kind: ValueType, *, with_texts: bool) -> Encoded:
    """Serialize the values of a feature that is declared as ``kind``."""
    scalars = _scalars(column, kind)
    if scalars is None:
        return _of_messages(_messages(column, kind), with_texts)
    if kind in _FLOATS:
        return _floats(scalars, kind, with_texts)
    distinct = scalars.dictionary_encode()
    field = _FIELDS[kind]
    messages = [Value(**{field: value}) for value in distinct.dictionary.to_pylist()]
    encoded = _of_messages([*messages, Value()], with_texts)  # the last stands for null
    indices = distinct.indices.fill_null(len(messages)).to_pylist()
    return Encoded(
        [encoded.values[index] for index in indices],
        [encoded.texts[index] for index in indices] if with_texts else [],
    )


def _require(view: FeatureView, batch: pa.RecordBatch) -> None:
    for column in (*view.entity_columns, *view.features):
        if column.name not in batch.schema.names:
            raise DataError(
                f"The source of the feature view {view.name!r} gives no column {column.name!r}; "
                f"it gives {batch.schema.names}. Correct the schema or its field mapping."
            )
    for column in view.entity_columns:
        if batch.column(column.name).null_count:
            raise without_key(view, column.name)


def without_key(view: FeatureView, column: str) -> DataError:
    """Word that rows have a null in a join key."""
    return DataError(
        f"Rows of the feature view {view.name!r} have no {column!r}, by which they would be "
        "served. Drop them from the source, or fill the join key."
    )


def _feature(view: FeatureView, batch: pa.RecordBatch, feature: Any, with_texts: bool) -> Encoded:
    column = batch.column(feature.name)
    try:
        return encode_values(column, feature.dtype.to_value_type(), with_texts=with_texts)
    except (ValueError, TypeError, OverflowError, AssertionError) as error:
        raise DataError(
            f"The feature {feature.name!r} of the view {view.name!r} is declared as "
            f"{feature.dtype} and its source gives {column.type}: {error}. Correct one of them."
        ) from error


def _entity_keys(batch: pa.RecordBatch, join_keys: Mapping[str, ValueType]) -> list[bytes]:
    names = sorted(join_keys)
    columns = [_key_parts(batch.column(name), join_keys[name]) for name in names]
    if None not in columns:
        head = serialize_entity_key_prefix(names)
        return [head + b"".join(parts) for parts in zip(*columns, strict=True)]
    messages = [_messages(batch.column(name), join_keys[name]) for name in names]
    return [
        serialize_entity_key(EntityKey(join_keys=names, entity_values=values), KEY_VERSION)
        for values in zip(*messages, strict=True)
    ]


def _key_parts(column: pa.Array, kind: ValueType) -> list[bytes] | None:
    """Return type, length and bytes of each value; None where Feast must serialize it."""
    scalars = _scalars(column, kind)
    if scalars is None:
        return None
    if kind in _WHOLE:
        stored = scalars.cast(_WHOLE[kind]).to_numpy()
        return _behind(struct.pack("<II", kind.value, stored.itemsize), stored)
    if kind not in (ValueType.STRING, ValueType.BYTES):
        return None
    number = kind.value
    texts = scalars.cast(pa.large_binary()).to_pylist()
    return [struct.pack("<II", number, len(text)) + text for text in texts]


def _behind(head: bytes, numbers: np.ndarray) -> list[bytes]:
    """Return the bytes of each number behind ``head``."""
    width = numbers.itemsize
    rows = np.empty((len(numbers), len(head) + width), dtype=np.uint8)
    rows[:, : len(head)] = np.frombuffer(head, dtype=np.uint8)
    rows[:, len(head) :] = numbers.view(np.uint8).reshape(-1, width)
    return rows.view(f"V{len(head) + width}").ravel().tolist()


_FLOATS = {ValueType.DOUBLE: (b"\x29", "<f8"), ValueType.FLOAT: (b"\x35", "<f4")}
"""Tag of the field in ``Value``, and the bytes after it."""
_FIELDS = {
    ValueType.INT32: "int32_val",
    ValueType.INT64: "int64_val",
    ValueType.STRING: "string_val",
    ValueType.BYTES: "bytes_val",
    ValueType.BOOL: "bool_val",
}
_WHOLE = {ValueType.INT32: pa.int32(), ValueType.INT64: pa.int64()}


def _scalars(column: pa.Array, kind: ValueType) -> pa.Array | None:
    """Return the column in the Arrow type of ``kind``; None where Feast must convert it."""
    found = column.type
    if kind in _FLOATS and _is_number(found):
        return pc.cast(column, pa.float64(), safe=False)
    if kind in _WHOLE and _is_number(found):
        return _integers(column)
    if kind == ValueType.STRING and (pa.types.is_string(found) or pa.types.is_large_string(found)):
        return column
    if kind == ValueType.BYTES and (pa.types.is_binary(found) or pa.types.is_large_binary(found)):
        return column
    return column if kind == ValueType.BOOL and pa.types.is_boolean(found) else None


def _is_number(found: pa.DataType) -> bool:
    return bool(pa.types.is_integer(found) or pa.types.is_floating(found))


def _integers(column: pa.Array) -> pa.Array:
    """Return whole numbers, cut towards zero as ``int`` does; NaN is a null."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, pc.trunc(column))
    return column.cast(pa.int64())


def _floats(column: pa.Array, kind: ValueType, with_texts: bool) -> Encoded:
    tag, layout = _FLOATS[kind]
    numbers = column.to_numpy(zero_copy_only=False)  # nulls become NaN, which is a null to Feast
    with np.errstate(over="ignore"):
        stored = numbers.astype(layout)
    values = _behind(tag, stored)
    texts = _float_texts(stored.astype("<f8")) if with_texts else []
    for row in np.flatnonzero(np.isnan(stored)).tolist():
        values[row] = b""
        if with_texts:
            texts[row] = None
    return Encoded(values, texts)


def _float_texts(numbers: np.ndarray) -> list[str | None]:
    """Return what ``str`` gives for each number.

    Arrow finds the same digits several times as fast, but writes no ``.0``, and an exponent for
    other numbers.
    """
    size = np.abs(numbers)
    found = pa.array(numbers).cast(pa.string())
    whole = pa.array(numbers == np.trunc(numbers))
    dotted = pc.binary_join_element_wise(found, ".0", "")
    texts: list[str | None] = pc.if_else(whole, dotted, found).to_pylist()
    for row in np.flatnonzero((size < 1e-4) & (size > 0) | (size >= 1e10)).tolist():
        texts[row] = str(numbers[row].item())
    return texts


def _messages(column: pa.Array, kind: ValueType) -> Sequence[Any]:
    whole = pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
    if whole and column.null_count:  # NumPy would make floats of them
        return python_values_to_proto_values(column.to_pylist(), kind)
    return python_values_to_proto_values(column.to_numpy(zero_copy_only=False), kind)


def _of_messages(messages: Sequence[Any], with_texts: bool) -> Encoded:
    texts = [extract_text_and_num(each, False)[0] for each in messages] if with_texts else []
    return Encoded([each.SerializeToString() for each in messages], texts)


def _times(column: pa.Array) -> list[Any]:
    index = pd.DatetimeIndex(pd.to_datetime(column.to_numpy(zero_copy_only=False)))
    if index.tz is not None:
        index = index.tz_convert(None)
    return [None if moment is pd.NaT else moment for moment in index.to_pydatetime()]
