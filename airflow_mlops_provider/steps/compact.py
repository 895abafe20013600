"""Turn the prediction log of an endpoint into Parquet that monitoring can read.

1. The closed segments that are new since last time become *parts*, which carry their names:
   ``{workspace}/predictions/{endpoint}/parts/{sha256}.parquet``.
2. All parts are joined, stripped of repeated records and sorted into one *batch*, which is named
   by its content: ``{workspace}/predictions/{endpoint}/{sha256}.parquet``.

Segments are read and parts are copied bit by bit, and DuckDB sorts with the help of a temporary
folder, so memory stays bounded however long the log is.

The invariant: a part appears whole, together with the list of segments it holds; the batch
depends on the records of all parts and on the window, but not on how parts divide the segments
among them, even if two hold the same one. So whatever moment a process is killed at, and however
often it is run, the next compaction reads just the segments that no part holds yet, and gives
the batch that one undisturbed compaction would have given.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import PredictionBatchRef
from airflow_mlops_provider.steps.prediction_log import (
    as_utc,
    common_schema,
    conformed,
    join_records,
    read_records,
)
from airflow_mlops_provider.workspace import checked_name, join, store_by_content

KEY = ["request_id", "row", "deployment", "attempt"]
"""What makes two records of the log the same prediction."""
_SEGMENTS = b"segments"
_ROWS_AT_ONCE = 50_000
_PART_ROWS = 100_000
_SORT_MEMORY = "256MB"
_ZSTD = {"compression": "zstd"}


@dataclass(frozen=True)
class _Segment:
    name: str
    """File name and size: a segment never changes once it is closed."""
    path: str


@dataclass(frozen=True)
class _Part:
    path: str
    schema: pa.Schema
    unreadable: dict[str, int]
    """Name of each segment in the part to the number of its lines that could not be read."""


@dataclass
class _Summary:
    """What is told of a batch, gathered while it is written."""

    n_rows: int = 0
    first: str | None = None
    last: str | None = None
    model_versions: set[str] = field(default_factory=set)

    def add(self, rows: pa.Table) -> None:
        times = rows["ts"]
        self.n_rows += rows.num_rows
        self.first = self.first or times[0].as_py().isoformat()
        self.last = times[-1].as_py().isoformat()
        self.model_versions.update(filter(None, pc.unique(rows["model_uri"]).to_pylist()))


def compact_log(
    log_folder: str,
    *,
    endpoint: str,
    workspace: str,
    window_start: str | datetime | None = None,
    window_end: str | datetime | None = None,
) -> PredictionBatchRef:
    """Gather the closed segments of a prediction log as one Parquet file.

    Inputs become columns ``input.<name>``, a numeric output the column ``score`` (of class
    probabilities the last); any other output is kept as JSON text in ``output``, and so are, in
    ``refused_inputs``, inputs that were answered with a client error (4xx). Rows are unique in
    ``request_id``, ``row``, ``deployment`` and ``attempt``, and sorted by time.

    Args:
        log_folder: URI of the folder with the log's ``*.jsonl`` files; others are ignored.
        endpoint: Name of the endpoint; a folder of the workspace.
        workspace: fsspec URI of the workspace.
        window_start: First moment to keep, ISO 8601 (naive means UTC); None is the beginning.
        window_end: First moment not to keep; None is the end.

    Returns:
        The batch, possibly of no rows. Its window is the one asked for; an end left open is the
        time of the first or last row.

    Raises:
        DataError: the folder does not exist, or a file in it is no prediction log.
        ParameterError: ``endpoint`` is no name, or an end of the window is no time.
    """
    start, end = _moment(window_start, "window_start"), _moment(window_end, "window_end")
    folder = join(workspace, "predictions", checked_name(endpoint, "endpoint", "compact_log"))
    parts = _read_parts(join(folder, "parts"))
    unreadable = {name: n for part in parts for name, n in part.unreadable.items()}
    new = [each for each in _closed_segments(log_folder) if each.name not in unreadable]
    for part in _read_segments(log_folder, new, join(folder, "parts")):
        parts.append(part)
        unreadable |= part.unreadable
    fs, _ = url_to_fs(folder)
    uri, digest, found = _store_batch(folder, fs, parts, (start, end))
    return PredictionBatchRef(
        uri=uri,
        n_rows=found.n_rows,
        file_hash=digest,
        model_versions=sorted(found.model_versions),
        window_start=start.isoformat() if start else found.first,
        window_end=end.isoformat() if end else found.last,
        n_unreadable=sum(unreadable.values()),
    )


def _closed_segments(log_folder: str) -> list[_Segment]:
    fs, path = url_to_fs(log_folder)
    try:
        files = fs.ls(path, detail=True)
    except FileNotFoundError as error:
        raise DataError(
            f"No prediction log at {log_folder}. The serving host writes it with the first "
            "request: check the endpoint's name, or send it traffic first."
        ) from error
    return [
        _Segment(f"{file['name'].rpartition('/')[2]} {file['size']}", file["name"])
        for file in files
        if file["name"].endswith(".jsonl")
    ]


def _read_segments(log_folder: str, segments: list[_Segment], folder: str) -> Iterator[_Part]:
    """Store segments as parts, several to a part as long as they are small."""
    fs, _ = url_to_fs(log_folder)
    tables: list[pa.Table] = []
    unreadable: dict[str, int] = {}
    for segment in segments:
        with fs.open(segment.path, "rb") as file:
            table, unreadable[segment.name] = read_records(file)
        if unreadable[segment.name] > 1 and not table.num_rows:
            raise DataError(
                f"No line of {segment.path} is a record of a prediction log. Move the file away, "
                "or point log_folder to the folder that the serving host writes."
            )
        tables.append(table)
        if sum(each.num_rows for each in tables) >= _PART_ROWS:
            yield _store_part(folder, tables, unreadable)
            tables, unreadable = [], {}
    if tables:
        yield _store_part(folder, tables, unreadable)


def _store_part(folder: str, tables: list[pa.Table], unreadable: dict[str, int]) -> _Part:
    metadata = {_SEGMENTS: json.dumps(unreadable, sort_keys=True)}
    table = join_records(tables).replace_schema_metadata(metadata)

    def write(uri: str) -> None:
        with fsspec.open(uri, "wb") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=_ROWS_AT_ONCE)

    uri, _ = store_by_content(folder, ".parquet", write)
    return _Part(url_to_fs(uri)[1], table.schema, unreadable)


def _read_parts(folder: str) -> list[_Part]:
    fs, path = url_to_fs(folder)
    if not fs.exists(path):
        return []
    parts = []
    for name in fs.ls(path, detail=False):
        if name.endswith(".parquet"):
            with fs.open(name, "rb") as file:
                schema = pq.read_schema(file)
            parts.append(_Part(name, schema, json.loads(schema.metadata[_SEGMENTS])))
    return parts


def _within(part: pa.Table, start: datetime | None, end: datetime | None) -> pa.Table:
    if start:
        part = part.filter(pc.greater_equal(part["ts"], pa.scalar(start, part["ts"].type)))
    if end:
        part = part.filter(pc.less(part["ts"], pa.scalar(end, part["ts"].type)))
    return part


def _store_batch(
    folder: str, fs: Any, parts: list[_Part], window: tuple[datetime | None, datetime | None]
) -> tuple[str, str, _Summary]:
    """Join parts into one sorted file without repeated predictions; of these the first stays."""
    schema = common_schema([part.schema for part in parts])
    summary = _Summary()

    def write(uri: str) -> None:
        with tempfile.TemporaryDirectory(prefix="mlops-compact-") as scratch:
            for i, part in enumerate(parts):
                with fs.open(part.path, "rb") as file:
                    _copy(file, f"{scratch}/{i}.parquet", schema, window)
            with fsspec.open(uri, "wb") as file, pq.ParquetWriter(file, schema, **_ZSTD) as writer:
                for rows in _distinct(scratch, schema) if parts else ():
                    summary.add(rows)
                    writer.write_table(rows)

    return *store_by_content(folder, ".parquet", write), summary


def _copy(
    file: Any, path: str, schema: pa.Schema, window: tuple[datetime | None, datetime | None]
) -> None:
    """Copy the rows of a part that lie in the window, with all the columns of ``schema``."""
    with pq.ParquetWriter(path, schema) as writer:
        for batch in pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
            writer.write_table(conformed(_within(pa.Table.from_batches([batch]), *window), schema))


def _distinct(scratch: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """Give the rows of all copies, sorted and each prediction once, the same number at a time."""
    names = [_quoted(name) for name in dict.fromkeys(["ts", *KEY, *schema.names])]
    order = ", ".join(f"{name} NULLS LAST" for name in names)
    keys = ", ".join(map(_quoted, KEY))
    query = (
        f"SELECT * FROM read_parquet({_text(scratch + '/*.parquet')}) "  # noqa: S608 - quoted
        f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1 ORDER BY {order}"
    )
    config: dict[str, Any] = {"memory_limit": _SORT_MEMORY, "temp_directory": scratch, "threads": 2}
    with duckdb.connect(config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        pending: list[pa.Table] = []
        for batch in connection.sql(query).to_arrow_reader(_ROWS_AT_ONCE):
            pending.append(pa.Table.from_batches([batch]).cast(schema))
            rows = pa.concat_tables(pending)
            while rows.num_rows >= _ROWS_AT_ONCE:
                yield rows.slice(0, _ROWS_AT_ONCE).combine_chunks()
                rows = rows.slice(_ROWS_AT_ONCE)
            pending = [rows]
        if pending and pending[0].num_rows:
            yield pending[0].combine_chunks()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _moment(value: str | datetime | None, name: str) -> datetime | None:
    if value in (None, ""):
        return None
    try:
        return as_utc(value if isinstance(value, datetime) else datetime.fromisoformat(str(value)))
    except ValueError as error:
        raise ParameterError.of(name, "compact_log", "an ISO 8601 time", value) from error
