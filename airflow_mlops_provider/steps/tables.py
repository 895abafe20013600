"""Rows that come in pieces, as tables of one schema."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.sources import (
    BATCH_ROWS,
    cast_column,
    normalised,
    plain_schema,
    require_distinct,
)

_ROWS, _CELLS = 1 << 18, 5 << 20  # of a row group: 40 MiB of numbers
_INEXACT = (pa.ArrowException, ValueError, TypeError, OverflowError)


def as_table(rows: Any, where: str) -> pa.Table:
    """Return a frame (without its index), an Arrow table or a record batch as a table.

    Aware times of several zones become UTC, and naive ones among them are taken as UTC.

    Raises:
        DataError: ``rows`` is nothing of these, two columns have one name, or a column has
            values of several types.
    """
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if isinstance(rows, pd.DataFrame):
        require_distinct([str(column) for column in rows.columns], where)
        rows = _from_pandas(rows, where)
    if not isinstance(rows, pa.Table):
        raise DataError(
            f"Expected a pandas frame or an Arrow table from {where}, got {type(rows).__name__}. "
            "Return one of these, or yield several."
        )
    require_distinct(rows.column_names, where)
    return normalised(rows, where)


def in_pieces(rows: Any) -> Iterable[Any]:
    """Return what a function gave as an iterable of its pieces; a frame or table is one."""
    return rows if isinstance(rows, list | tuple | Iterator) else [rows]


def table_of_rows(names: Sequence[str], rows: Sequence[Sequence[Any]], where: str) -> pa.Table:
    """Return rows of Python values, as a database driver gives them, as a table.

    Raises:
        DataError: two columns have one name, or one has values of several types.
    """
    require_distinct(list(names), where)
    columns = []
    for place, name in enumerate(names):
        try:
            columns.append(pa.array([row[place] for row in rows]))
        except _INEXACT as error:
            raise DataError(
                f"Column {name!r} of {where} has values that make no one type: {error}. Give it "
                "one type."
            ) from error
    return normalised(pa.table(columns, names=list(names)), where)


def unified(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """Return one schema for several sources, each with its name: all columns, the wider types.

    A column that a source lacks is null there.

    Raises:
        DataError: a column has types that no type holds both of.
    """
    fields: dict[str, tuple[pa.Field, str]] = {}
    for where, schema in schemas:
        for field in plain_schema(schema):
            known, first = fields.setdefault(field.name, (field, where))
            fields[field.name] = (_wider(known, field, first, where), first)
    return pa.schema([field for field, _ in fields.values()])


def conformed(rows: pa.Table | pa.RecordBatch, schema: pa.Schema, where: str) -> pa.Table:
    """Return ``rows`` as a table with the columns and types of ``schema``.

    Raises:
        DataError: a value does not fit the type of its column.
    """
    columns = [
        cast_column(rows.column(field.name), field, where)
        if field.name in rows.schema.names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def row_groups(tables: Iterable[pa.Table], n_columns: int) -> Iterator[pa.Table]:
    """Cut tables of one schema into tables of equal length, each column in one piece.

    Parquet pages end where chunks end, so the same rows give the same file only if their
    chunks are the same, too.
    """
    size = max(1, min(_ROWS, _CELLS // max(1, n_columns)))
    waiting: list[pa.Table] = []
    missing = size
    for table in tables:
        start = 0
        while start < table.num_rows:
            waiting.append(table.slice(start, missing))
            start += waiting[-1].num_rows
            missing -= waiting[-1].num_rows
            if not missing:
                yield pa.concat_tables(waiting).combine_chunks()
                waiting, missing = [], size
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


@contextmanager
def spooled(tables: Iterable[pa.Table], where: str) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
    """Keep tables whose common schema is known only at the end in a temporary local folder.

    Gives the schema and the tables, conformed to it.

    Raises:
        DataError: the tables disagree about a column.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-spool-") as folder:
        schemas = []
        for place, table in enumerate(tables):
            with pa.ipc.new_file(Path(folder, str(place)), table.schema, options=_LZ4) as file:
                file.write_table(table, BATCH_ROWS)
            schemas.append((f"chunk {place + 1} of {where}", table.schema))
        schema = unified(schemas)
        yield schema, _unspooled(folder, len(schemas), schema, where)


_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


def _unspooled(folder: str, n: int, schema: pa.Schema, where: str) -> Iterator[pa.Table]:
    for place in range(n):
        with pa.OSFile(str(Path(folder, str(place)))) as file:
            reader = pa.ipc.open_file(file)
            for index in range(reader.num_record_batches):
                yield conformed(reader.get_batch(index), schema, where)


def _wider(known: pa.Field, field: pa.Field, first: str, where: str) -> pa.Field:
    if known.type == field.type:
        return known
    both = [pa.schema([known]), pa.schema([field])]
    try:
        return pa.unify_schemas(both, promote_options="permissive").field(0)
    except pa.ArrowException as error:
        raise DataError(
            f"Sources disagree about a column: {field.name!r} is {known.type} in {first}, but "
            f"{field.type} in {where}. Give it one type in all of them."
        ) from error


def _from_pandas(frame: pd.DataFrame, where: str) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except _INEXACT as error:
        raise DataError(
            f"The frame from {where} has a column of mixed types: {error}. Give each column one "
            "type."
        ) from error
