"""Freeze rows of a source as an immutable Parquet file, named by its content.

Rows stream: they are read, narrowed, fingerprinted and written a row group at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import DatasetRef
from airflow_mlops_provider.steps.dvc import pinned_parts
from airflow_mlops_provider.steps.fingerprint import Fingerprint, schema_hash
from airflow_mlops_provider.steps.lakes import TableVersion, table_version
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.steps.sources import Part, normalised, require_columns
from airflow_mlops_provider.steps.tables import (
    as_table,
    conformed,
    row_groups,
    spooled,
    unified,
)
from airflow_mlops_provider.steps.window import Window
from airflow_mlops_provider.workspace import checked_name, join, store_by_content

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.card import DataCard

# columns of many values give up their dictionary soon, which halves the time of writing them
_WRITING = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 16}


def snapshot_dataset(
    source: str,
    *,
    name: str,
    workspace: str,
    time_column: str | None = None,
    window_start: str | datetime | None = None,
    window_end: str | datetime | None = None,
    columns: Sequence[str] | None = None,
    card: DataCard | None = None,
) -> DatasetRef:
    """Keep the rows of files whose time lies in ``[window_start, window_end)``.

    Rows without a time are in no window, so that windows which follow each other hold each
    row once. Files may have their columns in another order; a column that a file lacks is null
    there, and the wider of two types is taken.

    Args:
        source: Parquet or CSV files: a path, glob, folder, any fsspec URI of these or a ``.dvc``
            file; see :func:`~airflow_mlops_provider.steps.dvc.pinned_parts`.
        name: Name of the dataset; a folder of the workspace.
        workspace: fsspec URI of the workspace.
        time_column: Column that the window is about; naive times are taken as UTC.
        window_start: First moment to keep, ISO 8601; None is the beginning.
        window_end: First moment not to keep, ISO 8601; None is the end.
        columns: Columns to keep; None keeps all.
        card: Is told what was read.

    Raises:
        DataError: a file is missing, empty or unreadable, a column is unknown, files disagree
            about one, the window holds no rows, or data are not what their ``.dvc`` file records.
        ParameterError: the name is no folder name, a window has no time column, or DVC is to
            fetch the data and is not installed.
        ServiceError: a file was written to while it was read, or DVC's remote did not give it.
    """
    window = _required_column(Window.of(window_start, window_end, time_column))
    source, parts = pinned_parts(source)
    if card:
        card.parts = parts
    streams = {part.path: part for part in parts}
    target = _Target(name, workspace, source, window, card)
    return _keep_streams(streams, columns, target)


def snapshot_table(
    source: str,
    table_format: str,
    *,
    name: str,
    workspace: str,
    version: str | int | None = None,
    table_options: Mapping[str, Any] | None = None,
    time_column: str | None = None,
    window_start: str | datetime | None = None,
    window_end: str | datetime | None = None,
    columns: Sequence[str] | None = None,
    card: DataCard | None = None,
) -> DatasetRef:
    """Keep rows of a Delta or Iceberg table as it was at a version.

    Args are those of :func:`snapshot_dataset` and of
    :func:`~airflow_mlops_provider.steps.lakes.table_version`; the record's source names the
    version that was read.

    Raises:
        DataError: there is no such table, version or column, or the window holds no rows.
        ParameterError: the format is unknown, its library is not installed, the name is no
            folder name, or a window has no time column.
    """
    window = _required_column(Window.of(window_start, window_end, time_column))
    table = table_version(source, table_format, version, table_options)
    target = _Target(name, workspace, table.pin, window, card)
    return _keep_streams({table.pin: table}, columns, target)


def write_batches(
    tables: Iterable[Any],
    name: str,
    workspace: str,
    source: str,
    *,
    time_column: str | None = None,
    window_start: str | datetime | None = None,
    window_end: str | datetime | None = None,
    columns: Sequence[str] | None = None,
    card: DataCard | None = None,
) -> DatasetRef:
    """Keep the rows of frames or tables that come one after the other.

    They wait in a temporary local folder until the last one told the types of all.

    Args:
        tables: pandas frames, Arrow tables or record batches.
        name: Name of the dataset; a folder of the workspace.
        workspace: fsspec URI of the workspace.
        source: Where the rows come from, in words.
        time_column: Keep only rows whose time lies in the window; without it the window only
            labels the dataset.
        window_start: First moment of the window, ISO 8601; None is the beginning.
        window_end: First moment after the window, ISO 8601; None is the end.
        columns: Columns to keep; None keeps all.
        card: Is told what was read.

    Raises:
        DataError: there are no rows, something is no table, a column is unknown, or the tables
            disagree about one.
        ParameterError: the name is no folder name.
    """
    window = Window.of(window_start, window_end, time_column)
    target = _Target(name, workspace, source, window, card)
    narrowed = (window.rows(as_table(each, source), source) for each in tables)
    with spooled(_selected(narrowed, columns, source), source) as (schema, waiting):
        return _keep(waiting, schema, target)


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
    if isinstance(frame, pd.DataFrame) and columns is not None:
        require_columns(frame.columns, columns, source)
        frame = frame[list(columns)]
    return write_table(
        as_table(frame, source),
        name,
        workspace,
        source,
        window_start=window_start,
        window_end=window_end,
    )


def write_table(
    table: pa.Table,
    name: str,
    workspace: str,
    source: str,
    *,
    window_start: str | datetime | None = None,
    window_end: str | datetime | None = None,
    card: DataCard | None = None,
) -> DatasetRef:
    """Keep ``table`` at ``{workspace}/datasets/{name}/{sha256}.parquet``.

    Times are stored as UTC microseconds (DuckDB and Feast cannot read nanoseconds) and
    dictionaries as their values. The same rows in the same order give the same file.

    Raises:
        DataError: the table has no rows, or a column of nested values.
        ParameterError: ``name`` is no folder name.
    """
    target = _Target(name, workspace, source, Window.of(window_start, window_end), card)
    table = as_table(table, source)
    return _keep([table], table.schema, target)


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
    with readable(path), fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        if columns is None:
            return normalised(parquet.read(), path)
        require_columns(parquet.schema_arrow.names, columns, path)
        return normalised(parquet.read(list(columns)).select(list(columns)), path)


@dataclass(frozen=True)
class _Target:
    """The dataset to write, and what its record says."""

    name: str
    workspace: str
    source: str
    window: Window
    card: DataCard | None

    def __post_init__(self) -> None:
        checked_name(self.name, "name", "snapshot")


def _required_column(window: Window) -> Window:
    if window and window.column is None:
        raise ParameterError.of("time_column", "snapshot_dataset", "given with a window", None)
    return window


def _keep_streams(
    streams: Mapping[str, Part | TableVersion], columns: Sequence[str] | None, target: _Target
) -> DatasetRef:
    """Keep the rows of sources, given by name, whose schema is known before they are read."""
    schema = unified((where, stream.schema) for where, stream in streams.items())
    if columns is not None:
        require_columns(schema.names, columns, target.source)
        schema = pa.schema([schema.field(column) for column in columns])
    needed = {*schema.names, target.window.column}
    batches = (
        conformed(target.window.rows(batch, where), schema, where)
        for where, stream in streams.items()
        for batch in stream.batches([name for name in stream.schema.names if name in needed])
    )
    return _keep(batches, schema, target)


def _selected(
    tables: Iterable[pa.Table], columns: Sequence[str] | None, source: str
) -> Iterator[pa.Table]:
    for table in tables:
        require_columns(table.column_names, columns or (), source)
        yield table if columns is None else table.select(list(columns))


def _keep(tables: Iterable[pa.Table], schema: pa.Schema, target: _Target) -> DatasetRef:
    """Write tables of one schema, and fingerprint them meanwhile in a second thread."""
    fingerprint = Fingerprint(schema)

    def look(group: pa.Table) -> None:
        fingerprint.update(group)
        if target.card:
            target.card.update(group)

    def write(uri: str) -> None:
        with (
            fsspec.open(uri, "wb") as file,
            pq.ParquetWriter(file, schema, **_WRITING) as writer,
            ThreadPoolExecutor(1) as thread,
        ):
            for group in row_groups(tables, len(schema)):
                looking = thread.submit(look, group)
                writer.write_table(group, row_group_size=group.num_rows)
                looking.result()
        if not fingerprint.n_rows:
            raise _no_rows(target)

    folder = join(target.workspace, "datasets", target.name)
    uri, digest = store_by_content(folder, ".parquet", write)
    start, end = target.window.iso()
    return DatasetRef(
        name=target.name,
        uri=uri,
        file_hash=digest,
        logical_hash=fingerprint.hexdigest(),
        schema_hash=schema_hash(schema),
        n_rows=fingerprint.n_rows,
        columns={field.name: str(field.type) for field in schema},
        source=target.source,
        window_start=start,
        window_end=end,
    )


def _no_rows(target: _Target) -> DataError:
    return DataError(
        f"No rows in {target.source} for dataset {target.name!r} (window {target.window}). Check "
        "the source and the window, or wait until the data has arrived."
    )
