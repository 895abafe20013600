"""Freeze rows of a source as an immutable Parquet file, named by its content.

The logical hash says whether two datasets hold the same rows, whatever file, order or chunks
they came in: each row is hashed (``pandas.util.hash_pandas_object``, 64 bits), the row hashes
are sorted, and sha256 is taken over them and the schema hash. Sorting keeps duplicates apart,
which a sum or XOR would not. The schema hash covers names and Arrow types, not their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import IO, Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import DatasetRef
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.workspace import checked_name, join, store_by_content

_TIME = pa.timestamp("us", tz="UTC")
_SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zip")
_NULLABLE = {
    pa.bool_(): pd.BooleanDtype(),
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
}


def snapshot_dataset(
    source: str,
    *,
    name: str,
    workspace: str,
    time_column: str | None = None,
    window_start: str | datetime | None = None,
    window_end: str | datetime | None = None,
    columns: Sequence[str] | None = None,
) -> DatasetRef:
    """Keep the rows of ``source`` whose time lies in ``[window_start, window_end)``.

    Args:
        source: Parquet or CSV files: a path, glob, folder or any fsspec URI of these.
        name: Name of the dataset; a folder of the workspace.
        workspace: fsspec URI of the workspace.
        time_column: Column that the window is about; naive times are taken as UTC.
        window_start: First moment to keep, ISO 8601; None is the beginning.
        window_end: First moment not to keep, ISO 8601; None is the end.
        columns: Columns to keep; None keeps all.

    Raises:
        DataError: a file is missing, empty or unreadable, a column is unknown, or the window
            holds no rows.
        ParameterError: the name is no folder name, or a window has no time column.
    """
    window = (_moment(window_start, "window_start"), _moment(window_end, "window_end"))
    if any(window) and time_column is None:
        raise ParameterError.of("time_column", "snapshot_dataset", "given with a window", None)
    parts = [
        _narrow(_read_file(fs, path), path, time_column, window, columns)
        for fs, path in _files(source)
    ]
    table = _concatenated(parts, source)
    if not table.num_rows:
        span = " to ".join(str(end or "...") for end in window)
        raise DataError(
            f"No rows in {source} (window {span} of {time_column}). Check the window, or wait "
            "until its data has arrived."
        )
    return write_table(table, name, workspace, source, window_start=window[0], window_end=window[1])


def write_dataset(
    frame: pd.DataFrame,
    name: str,
    workspace: str,
    source: str,
    *,
    columns: Sequence[str] | None = None,
    window_start: str | datetime | None = None,
    window_end: str | datetime | None = None,
) -> DatasetRef:
    """Keep ``frame`` (without its index), or some of its columns; see :func:`write_table`."""
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"Expected a pandas frame from {source}, got {type(frame).__name__}. Return a frame."
        )
    if columns is not None:
        _require_columns(frame.columns, columns, source)
        frame = frame[list(columns)]
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"The frame for dataset {name!r} has a column of mixed types: {error}. Give each "
            "column one type."
        ) from error
    return write_table(
        table, name, workspace, source, window_start=window_start, window_end=window_end
    )


def write_table(
    table: pa.Table,
    name: str,
    workspace: str,
    source: str,
    *,
    window_start: str | datetime | None = None,
    window_end: str | datetime | None = None,
) -> DatasetRef:
    """Keep ``table`` at ``{workspace}/datasets/{name}/{sha256}.parquet``.

    Times are stored as UTC microseconds (DuckDB and Feast cannot read nanoseconds) and
    dictionaries as their values. The same rows in the same order give the same file.

    Raises:
        DataError: the table has no rows, or a column of nested values.
        ParameterError: ``name`` is no folder name.
    """
    checked_name(name, "name", "write_dataset")
    if not table.num_rows:
        raise DataError(f"Dataset {name!r} from {source} would have no rows. Check its source.")
    table = _normalised(table).replace_schema_metadata(None)

    def write(uri: str) -> None:
        with fsspec.open(uri, "wb") as file:
            pq.write_table(table, file, compression="zstd")

    schema = schema_hash(table.schema)
    logical = logical_hash(table)
    uri, digest = store_by_content(join(workspace, "datasets", name), ".parquet", write)
    return DatasetRef(
        name=name,
        uri=uri,
        file_hash=digest,
        logical_hash=logical,
        schema_hash=schema,
        n_rows=table.num_rows,
        columns={field.name: str(field.type) for field in table.schema},
        source=source,
        window_start=_iso(window_start),
        window_end=_iso(window_end),
    )


def read_dataset(ref: DatasetRef, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a dataset, or some of its columns, as a frame; see :func:`read_table`.

    Integers with missing values become floats with NaN, as is usual in pandas.
    """
    frame: pd.DataFrame = read_table(ref, columns).to_pandas()
    return frame


def read_table(ref: DatasetRef, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a dataset, or some of its columns, as an Arrow table.

    Raises:
        DataError: the file is gone or broken, or a column is unknown.
    """
    fs, path = url_to_fs(ref.uri)
    return _read_file(fs, path, columns)


def schema_hash(schema: pa.Schema) -> str:
    """Return the sha256 over names and types, whatever the order of the columns."""
    lines = sorted(f"{field.name}:{field.type}" for field in schema)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def logical_hash(table: pa.Table) -> str:
    """Return the sha256 over schema and rows, whatever the order of rows and columns.

    Raises:
        DataError: a column holds nested values.
    """
    table = _normalised(table)
    frame = table.select(sorted(table.column_names)).to_pandas(types_mapper=_NULLABLE.get)
    # pandas hashes a missing string as the text "nan"
    texts = [column for column in frame if frame[column].dtype == object]
    flags = {f"{column} is null": frame[column].isna() for column in texts}
    try:
        rows = pd.util.hash_pandas_object(frame.assign(**flags), index=False).to_numpy()
    except TypeError as error:
        nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
        raise DataError(
            f"Columns {nested} hold nested values, which have no fingerprint. Flatten or drop them."
        ) from error
    digest = hashlib.sha256(schema_hash(table.schema).encode())
    digest.update(np.sort(rows).astype("<u8").tobytes())
    return digest.hexdigest()


def _files(source: str) -> Iterator[tuple[Any, str]]:
    fs, path = url_to_fs(source)
    if fs.isdir(path):
        paths = [file for file in fs.find(path) if file.endswith(_SUFFIXES)]
    else:
        paths = fs.glob(path)
    if not paths:
        raise DataError(
            f"No file at {source}. Expected a Parquet or CSV file, a folder or a glob of them; "
            "check the path, or wait until the data has arrived."
        )
    return ((fs, file) for file in sorted(paths))


def _read_file(fs: Any, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a whole file, or some columns of a Parquet file."""
    is_csv = ".csv" in path.rpartition("/")[2]
    with (
        readable(path, "CSV" if is_csv else "Parquet"),
        fs.open(path, "rb", compression="infer") as file,
    ):
        return _normalised(_read_csv(file) if is_csv else _read_parquet(file, path, columns))


def _read_parquet(file: IO[bytes], path: str, columns: Sequence[str] | None) -> pa.Table:
    parquet = pq.ParquetFile(file)
    if columns is None:
        return parquet.read()
    _require_columns(parquet.schema_arrow.names, columns, path)
    return parquet.read(list(columns)).select(list(columns))


def _read_csv(file: IO[bytes]) -> pa.Table:
    options = pa_csv.ConvertOptions(strings_can_be_null=True)
    return pa_csv.read_csv(file, convert_options=options)


def _narrow(
    table: pa.Table,
    path: str,
    time_column: str | None,
    window: tuple[datetime | None, datetime | None],
    columns: Sequence[str] | None,
) -> pa.Table:
    """Keep the rows of the window and the asked columns."""
    start, end = window
    if time_column is not None and (start or end):
        times = _times(_selected(table, [time_column], path)[time_column], time_column, path)
        if start:
            keep = pc.greater_equal(times, pa.scalar(start, _TIME))
            table, times = table.filter(keep), times.filter(keep)
        if end:
            table = table.filter(pc.less(times, pa.scalar(end, _TIME)))
    return table if columns is None else _selected(table, columns, path)


def _times(column: pa.ChunkedArray, name: str, path: str) -> pa.ChunkedArray:
    try:
        return column.cast(_TIME)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"Column {name!r} of {path} has type {column.type}, which is no time: {error}. "
            "Name another column, or write times into this one."
        ) from error


def _selected(table: pa.Table, columns: Sequence[str], where: str) -> pa.Table:
    _require_columns(table.column_names, columns, where)
    return table.select(list(columns))


def _require_columns(present: Iterable[str], wanted: Sequence[str], where: str) -> None:
    names = list(present)
    unknown = [column for column in wanted if column not in names]
    if unknown:
        raise DataError(
            f"{where} has no column {unknown}. It has {names}. Correct the name, or what wrote "
            "the column."
        )


def _concatenated(parts: list[pa.Table], source: str) -> pa.Table:
    try:
        return pa.concat_tables(parts, promote_options="permissive").combine_chunks()
    except pa.ArrowException as error:
        raise DataError(
            f"The files of {source} disagree about a column: {error}. Give it one type in "
            "all of them."
        ) from error


def _normalised(table: pa.Table) -> pa.Table:
    schema = pa.schema([pa.field(field.name, _plain(field.type)) for field in table.schema])
    return table if table.schema == schema else table.cast(schema, safe=False)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_timestamp(kind):
        return _TIME
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind


def _moment(value: str | datetime | None, name: str) -> datetime | None:
    """Return a moment in UTC; a naive one is taken as UTC."""
    if value in (None, ""):
        return None
    try:
        moment = pd.Timestamp(value)
    except ValueError as error:
        raise ParameterError.of(name, "snapshot_dataset", "an ISO 8601 time", value) from error
    aware = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
    return aware.to_pydatetime()


def _iso(value: str | datetime | None) -> str | None:
    moment = _moment(value, "window")
    return moment.isoformat() if moment else None
