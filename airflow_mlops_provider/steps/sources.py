"""Read the Parquet and CSV files of others, file by file, in one set of types."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.utils import infer_compression

from airflow_mlops_provider.exceptions import DataError, ParameterError, SourceChangedError
from airflow_mlops_provider.steps.readable import readable

TIME = pa.timestamp("us", tz="UTC")
BATCH_ROWS = 1 << 16
_SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zip")
_STORED = ("arrow.uuid", "arrow.json")
_VERSIONS = ("ETag", "etag", "generation", "mtime", "LastModified", "last_modified", "created")
"""What file systems call that which changes when a file is written; the first one counts."""


@dataclass(frozen=True)
class Part:
    """One file of a source, as it was when it was listed."""

    fs: Any
    path: str
    size: int
    """Bytes."""
    version: object
    copies: tuple[str, ...] = ()
    """Files with the same bytes; they were left out."""
    name: str = ""
    """Tells the format where the path does not, in a store that names files by their hash."""

    @classmethod
    def of(cls, fs: Any, path: str, name: str = "") -> Part:
        """Return the file at ``path`` as it is now."""
        size, version = _identity(fs.info(path))
        return cls(fs, path, size, version, name=name)

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and :func:`plain` types. A CSV file is read whole to know them.

        Raises:
            DataError: the file is empty or broken, or names a column twice.
            SourceChangedError: the file was written to since it was listed.
        """
        with self._opened() as file:
            if self._is_csv:
                return _read_csv(file, self.path).schema
            return plain_schema(_checked_names(pq.read_schema(file), self.path))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, at most ``BATCH_ROWS`` at a time, in :func:`plain` types.

        Parquet is read one row group at a time. The types of a CSV file are known only once all
        of it was read, so it is held in memory whole.

        Args:
            columns: Columns to read, in this order; None reads all.

        Raises:
            DataError: the file is empty or broken, names a column twice, or lacks a column.
            SourceChangedError: the file was written to since it was listed; what was yielded
                before is not to be used.
        """
        with self._opened() as file:
            if self._is_csv:
                yield from _csv_batches(file, self.path, columns)
            else:
                yield from _parquet_batches(file, self.path, columns)

    @property
    def _is_csv(self) -> bool:
        return ".csv" in (self.name or self.path).rpartition("/")[2]

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        compression = infer_compression(self.name or self.path)
        try:
            with (
                readable(self.path, "CSV" if self._is_csv else "Parquet"),
                self.fs.open(self.path, "rb", compression=compression) as file,
            ):
                yield file
        except DataError as error:
            self._require_unchanged(error)
            raise
        self._require_unchanged()

    def _require_unchanged(self, cause: Exception | None = None) -> None:
        self.fs.invalidate_cache(self.path)
        try:
            now = _identity(self.fs.info(self.path))
        except FileNotFoundError:
            now = None
        if now != (self.size, self.version):
            raise SourceChangedError(
                f"{self.path} changed while it was read: expected {self.size} bytes of version "
                f"{self.version}, got {now or 'no file'}. Try again when its writer is done."
            ) from cause


def parts_of(source: str) -> list[Part]:
    """Return the files of ``source``, sorted by path, each content once.

    Files of equal size are compared by their sha256; the first of equal files stands for all,
    and its ``copies`` names the others.

    Args:
        source: Parquet or CSV files: a path, glob, folder or any fsspec URI of these. Hidden
            files of a folder are left out.

    Raises:
        DataError: there is no such file.
        ParameterError: no file system is installed for the URI.
    """
    try:
        fs, path = url_to_fs(source)
    except (ValueError, ImportError) as error:
        raise ParameterError(
            f"Expected a path or fsspec URI as source, got {source!r}: {error}. Correct it, or "
            "install what serves this kind of URI."
        ) from error
    parts = [Part.of(fs, file) for file in sorted(_paths(fs, path))]
    if not parts:
        raise DataError(
            f"No file at {source}. Expected a Parquet or CSV file, a folder or a glob of them; "
            "check the path, or wait until the data has arrived."
        )
    return without_copies(parts)


def holds_rows(path: str) -> bool:
    """Tell whether a file of a folder is read: not hidden, and Parquet or CSV by its name."""
    return path.endswith(_SUFFIXES) and not path.rpartition("/")[2].startswith(".")


def without_copies(parts: Sequence[Part]) -> list[Part]:
    """Return each content once, its first file standing for all; see :func:`parts_of`."""
    sizes = Counter(part.size for part in parts)
    contents = defaultdict(list)
    for part in parts:
        contents[part.size, "" if sizes[part.size] == 1 else _content(part)].append(part)
    return [
        replace(first, copies=tuple(each.path for each in copies))
        for first, *copies in contents.values()
    ]


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the names of ``schema`` with their :func:`plain` types, and no metadata."""
    return pa.schema([pa.field(field.name, plain(field.type)) for field in schema])


def plain(kind: pa.DataType) -> pa.DataType:
    """Return the one type we use for values of ``kind``.

    Times are UTC microseconds (DuckDB and Feast cannot read nanoseconds, which are cut off);
    a dictionary is its values; large strings, binaries and views of them are plain ones;
    a UUID is its bytes and JSON its text.
    """
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name in _STORED:
        return plain(kind.storage_type)
    if pa.types.is_timestamp(kind):
        return TIME
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


def normalised(rows: pa.Table | pa.RecordBatch, where: str) -> Any:
    """Return ``rows`` in :func:`plain` types; naive times are taken as UTC.

    Raises:
        DataError: a time is too far away for microseconds.
    """
    schema = plain_schema(rows.schema)
    if rows.schema.equals(schema, check_metadata=True):
        return rows
    columns = [cast_column(rows.column(index), field, where) for index, field in enumerate(schema)]
    return type(rows).from_arrays(columns, schema=schema)


def require_columns(present: Iterable[str], wanted: Sequence[str], where: str) -> None:
    """Check that ``where`` has the columns.

    Raises:
        DataError: it lacks some; the message names them and those it has.
    """
    names = list(present)
    unknown = [column for column in wanted if column not in names]
    if unknown:
        raise DataError(
            f"{where} has no column {unknown}. It has {names}. Correct the name, or what wrote "
            "the column."
        )


def require_distinct(names: Sequence[object], where: str) -> None:
    """Check that no column name comes twice.

    Raises:
        DataError: the message names the columns.
    """
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{where} has several columns named {twice}. Give each column a name of its own."
        )


def cast_column(column: Any, field: pa.Field, where: str) -> Any:
    """Return an array with the type of ``field``; times lose what is below its unit.

    Raises:
        DataError: a value does not fit the type.
    """
    if column.type == field.type:
        return column
    try:
        return pc.cast(column, options=pc.CastOptions(field.type, allow_time_truncate=True))
    except pa.ArrowInvalid as error:
        raise DataError(
            f"Column {field.name!r} of {where} has type {column.type} and does not fit "
            f"{field.type}: {error}. Correct its values."
        ) from error


def _paths(fs: Any, path: str) -> list[str]:
    if fs.isdir(path):
        return [file for file in fs.find(path) if holds_rows(file)]
    if fs.isfile(path):
        return [path]
    return [file for file in fs.glob(path) if fs.isfile(file)]


def _identity(info: dict[str, Any]) -> tuple[int, object]:
    return info["size"], next((info[key] for key in _VERSIONS if info.get(key)), None)


def _content(part: Part) -> str:
    with readable(part.path), part.fs.open(part.path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked_names(schema: pa.Schema, path: str) -> pa.Schema:
    require_distinct(schema.names, path)
    return schema


def _parquet_batches(
    file: IO[bytes], path: str, columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    parquet = pq.ParquetFile(file)
    names = _checked_names(parquet.schema_arrow, path).names
    wanted = names if columns is None else list(columns)
    require_columns(names, wanted, path)
    for group in range(parquet.num_row_groups):
        # asked for all groups at once, Arrow keeps what it read of the file
        for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=wanted):
            yield normalised(batch.select(wanted), path)


def _csv_batches(
    file: IO[bytes], path: str, columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    table = _read_csv(file, path)
    if columns is not None:
        require_columns(table.column_names, columns, path)
        table = table.select(list(columns))
    yield from table.to_batches(BATCH_ROWS)


def _read_csv(file: IO[bytes], path: str) -> pa.Table:
    options = pa_csv.ConvertOptions(strings_can_be_null=True)
    table = pa_csv.read_csv(file, convert_options=options)
    _checked_names(table.schema, path)
    return normalised(table, path)
