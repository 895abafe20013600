"""Say whether two datasets hold the same rows, whatever file, order or chunks they came in.

The logical hash is an additive multiset hash (MSet-Add-Hash: Clarke, Devadas, van Dijk, Gassend
and Suh, "Incremental multiset hash functions", ASIACRYPT 2003): each row gets a 64-bit hash,
four mixers of it are summed modulo 2**64, and sha256 is taken over the schema hash, the number
of rows and the sums. A sum needs no memory and knows no order, but counts repeated rows.

Row hashes have no secret key, so this finds accidents and not forgers; against those there is
the sha256 of the file.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.sources import BATCH_ROWS, normalised, plain_schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Codes = NDArray[np.uint64]

_START = np.uint64(0x243F6A8885A308D3)
_NULL = np.uint64(0x13198A2E03707344)
_NAN = np.uint64(0x7FF8000000000000)
# SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014
_GAMMA = 0x9E3779B97F4A7C15
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SAMPLE = 1024
_STREAMS = np.array([n * _GAMMA % 2**64 for n in range(1, 5)], dtype=np.uint64)


class Fingerprint:
    """The logical hash of rows that come batch by batch.

    Args:
        schema: Names and types of all batches; the order of their columns may differ.

    Raises:
        DataError: a column has nested values or those of an extension type.
    """

    def __init__(self, schema: pa.Schema) -> None:
        require_flat(schema)
        self._schema = plain_schema(schema)
        self._sums = np.zeros(len(_STREAMS), dtype=np.uint64)
        self.n_rows = 0

    def update(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Add ``rows``."""
        rows = normalised(rows.select(self._schema.names), "the rows")
        for batch in rows.to_batches(BATCH_ROWS) if isinstance(rows, pa.Table) else [rows]:
            self._add(batch)

    def _add(self, batch: pa.RecordBatch) -> None:
        hashes = np.full(batch.num_rows, _START)
        for name in sorted(batch.schema.names):
            np.bitwise_xor(hashes, _codes(batch.column(name)), out=hashes)
            _mix(hashes)
        self._sums += _mix(hashes + _STREAMS[:, None]).sum(axis=1)
        self.n_rows += batch.num_rows

    def hexdigest(self) -> str:
        """Return the sha256 over schema and rows, in hex."""
        digest = hashlib.sha256(schema_hash(self._schema).encode())
        digest.update(self.n_rows.to_bytes(8, "little"))
        digest.update(self._sums.astype("<u8").tobytes())
        return digest.hexdigest()


def logical_hash(table: pa.Table) -> str:
    """Return the :class:`Fingerprint` of a whole table.

    Raises:
        DataError: a column has nested values or those of an extension type.
    """
    fingerprint = Fingerprint(table.schema)
    fingerprint.update(table)
    return fingerprint.hexdigest()


def schema_hash(schema: pa.Schema) -> str:
    """Return the sha256 over names and types, whatever the order of the columns."""
    lines = sorted(f"{field.name}:{field.type}" for field in schema)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def require_flat(schema: pa.Schema) -> None:
    """Check that each column has single values.

    Raises:
        DataError: the message names the columns that have lists, structures or values of a
            type that only its maker knows.
    """
    odd = {field.name: str(field.type) for field in plain_schema(schema) if _odd(field.type)}
    if odd:
        raise DataError(
            f"Columns {odd} hold nested values, which have no fingerprint. Flatten them, write "
            "them as text, or drop them."
        )


def _odd(kind: pa.DataType) -> bool:
    foreign = isinstance(kind, pa.BaseExtensionType) or pa.types.is_interval(kind)
    return foreign or pa.types.is_nested(kind)


def _codes(column: pa.Array) -> Codes:
    """Return 64 bits for each value: equal values of a column have equal ones."""
    if column.null_count == len(column):
        return np.full(len(column), _NULL)
    if column.null_count == 0:
        return _values(column)
    return np.where(column.is_null().to_numpy(zero_copy_only=False), _NULL, _values(column))


def _values(column: pa.Array) -> Codes:
    kind = column.type
    if pa.types.is_floating(kind):
        return _float_bits(column)
    if pa.types.is_temporal(kind) and kind.bit_width <= 64:
        column = column.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not (pa.types.is_boolean(kind) or pa.types.is_integer(kind)):
        return _distinct(column)
    whole = column if kind == pa.uint64() else column.cast(pa.int64())
    codes: Codes = _filled(whole).to_numpy(zero_copy_only=False).view(np.uint64)
    return codes


def _float_bits(column: pa.Array) -> Codes:
    # adding 0.0 makes -0.0 positive
    values = _filled(column.cast(pa.float64())).to_numpy(zero_copy_only=False) + 0.0
    return np.where(np.isnan(values), _NAN, values.view(np.uint64))


def _distinct(column: pa.Array) -> Codes:
    """Hash texts, binaries and decimal numbers with SipHash-2-4; repeated ones only once."""
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.string())
    column = column.cast(pa.binary())
    if len(column[:_SAMPLE].unique()) > _SAMPLE / 2:
        return _siphash(pc.fill_null(column, b""))
    encoded = column.dictionary_encode()
    codes: Codes = _siphash(encoded.dictionary)[_filled(encoded.indices).to_numpy()]
    return codes


def _siphash(values: pa.Array) -> Codes:
    hashes: Any = pd.util.hash_array(values.to_numpy(zero_copy_only=False), categorize=False)
    return hashes  # type: ignore[no-any-return]  # pandas-stubs knows no width


def _filled(column: pa.Array) -> pa.Array:
    return pc.fill_null(column, 0) if column.null_count else column


def _mix(hashes: Codes) -> Codes:
    """Scramble each hash in place, one to one; return the array."""
    scratch = np.empty_like(hashes)
    for shift, factor in ((30, _FACTORS[0]), (27, _FACTORS[1]), (31, None)):
        np.right_shift(hashes, np.uint64(shift), out=scratch)
        np.bitwise_xor(hashes, scratch, out=hashes)
        if factor is not None:
            np.multiply(hashes, factor, out=hashes)
    return hashes
