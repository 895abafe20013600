"""The rows that drift looks at, batch by batch, wherever they lie; and a sample of them.

A sample is chosen by the hashes of its rows, equal rows being numbered, so that it depends
neither on their order nor on the files they come in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.records import DatasetRef
from airflow_mlops_provider.steps.sources import (
    BATCH_ROWS,
    normalised,
    parts_of,
    require_columns,
    require_distinct,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_mlops_provider.steps.drift.profile import Kind

LARGEST = float(np.finfo(np.float64).max)
"""Stands for infinity, which JSON does not have."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class _Part(Protocol):
    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]: ...


@dataclass(frozen=True)
class Rows:
    """Rows of one or more parts; a column may have other types in other parts."""

    uri: str
    parts: Sequence[_Part]

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows, at most 65,536 rows at a time."""
        for part in self.parts:
            yield from part.batches(columns)

    def column(self, name: str) -> Iterator[pa.Array]:
        """Yield one column of all rows."""
        return (batch.column(0) for batch in self.batches([name]))


def rows_of(source: DatasetRef | pd.DataFrame | Rows | str, uri: str | None = None) -> Rows:
    """Open a dataset, a frame, or files by path, folder, glob or URI; rows stay what they are.

    Args:
        source: Where the rows are.
        uri: How the rows are called; by default the URI of ``source``, or ``frame``.

    Raises:
        DataError: there is no such file.
    """
    if isinstance(source, Rows):
        return source
    if isinstance(source, pd.DataFrame):
        return Rows(uri or "frame", [_Frame(source)])
    path = source.uri if isinstance(source, DatasetRef) else source
    return Rows(uri or path, parts_of(path))


def kind_of(type_: pa.DataType) -> Kind | None:
    """Return how values of an Arrow type are compared; None if not at all."""
    types = pa.types
    if types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_):
        return "numeric"
    if types.is_boolean(type_) or types.is_string(type_) or types.is_null(type_):
        return "categorical"
    return "datetime" if types.is_timestamp(type_) or types.is_date(type_) else None


def numbers(values: pa.Array) -> NDArray[np.float64]:
    """Return numbers, or times in microseconds, as floats; NaN where a value is missing.

    Infinities become the largest floats, so that they have a place among the others.
    """
    if kind_of(values.type) == "datetime":
        values = values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    floats = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(np.clip(floats, -LARGEST, LARGEST))


def levels(values: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the distinct values as texts, and the place of each row among them (-1: missing)."""
    encoded = values.cast(pa.string()).dictionary_encode()
    return encoded.dictionary, encoded.indices.fill_null(-1).to_numpy().astype(np.int64)


def sample_of(rows: Rows, columns: Sequence[str], n: int) -> pa.Table:
    """Return ``n`` of at least one row, or all if there are fewer, sorted by their hashes.

    Reads everything twice and holds 8 bytes a row.
    """
    hashes = [row_hashes(batch) for batch in rows.batches(columns)]
    wanted = _chosen(np.concatenate(hashes), n)
    taken = [_take(batch, wanted) for batch in rows.batches(columns)]
    tables = [pa.Table.from_batches([batch]) for batch in taken]
    table = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    order = np.concatenate([row_hashes(batch) for batch in taken]).argsort(kind="stable")
    return table.take(order)


def row_hashes(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each row, whatever the batch it lies in."""
    combined = np.zeros(batch.num_rows, np.uint64)
    for values in batch.columns:
        combined = _mixed(combined * _GOLDEN + _value_hashes(values))
    return combined


def _value_hashes(values: pa.Array) -> NDArray[np.uint64]:
    if kind_of(values.type) != "categorical":
        return pd.util.hash_array(numbers(values))
    names, places = levels(values)
    # the last one is for missing values, which have place -1
    return np.append(text_hashes(names), _GOLDEN)[places]


def text_hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each text."""
    objects = texts.to_numpy(zero_copy_only=False).astype(object)
    return pd.util.hash_array(objects, categorize=False)


def _chosen(hashes: NDArray[np.uint64], n: int) -> Counter[int]:
    """Return how many rows of each hash are in the sample."""
    hashes.sort()
    first = np.searchsorted(hashes, hashes, side="left")
    copies = (np.arange(len(hashes)) - first).astype(np.uint64)
    lot = _mixed(hashes + copies * _GOLDEN)
    drawn = lot.argpartition(n - 1)[:n] if 0 < n < len(lot) else np.arange(min(n, len(lot)))
    return Counter(hashes[drawn].tolist())


def _take(batch: pa.RecordBatch, wanted: Counter[int]) -> pa.RecordBatch:
    """Return the rows that are still wanted, and cross them off."""
    hashes = row_hashes(batch)
    kept = []
    for place in np.flatnonzero(np.isin(hashes, np.array([*wanted], np.uint64))):
        if wanted[int(hashes[place])] > 0:
            wanted[int(hashes[place])] -= 1
            kept.append(place)
    return batch.take(pa.array(kept, pa.int64()))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread the bits of hashes that were combined arithmetically."""
    return pd.util.hash_array(values)


@dataclass(frozen=True)
class _Frame:
    frame: pd.DataFrame

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        where, present = "The frame", [*self.frame.columns]
        require_columns(present, columns, where)
        require_distinct([name for name in present if name in columns], where)
        arrays = {name: _array(self.frame[name]) for name in columns}
        yield from normalised(pa.table(arrays), where).to_batches(BATCH_ROWS)


def _array(values: pd.Series[Any]) -> pa.Array:
    try:
        return pa.Array.from_pandas(values)
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(
            f"Column {values.name!r} of the frame has values of mixed types: {error}. Give it one "
            "type."
        ) from error
