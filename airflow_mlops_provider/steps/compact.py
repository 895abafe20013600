"""Turn the prediction log of an endpoint into Parquet that monitoring can read.

1. The closed segments that are new since last time become *parts*, which carry their names:
   ``{workspace}/predictions/{endpoint}/parts/{sha256}.parquet``.
2. All parts are joined, stripped of repeated records and sorted into one *batch*, which is named
   by its content: ``{workspace}/predictions/{endpoint}/{sha256}.parquet``.

Segments are read and parts are copied bit by bit, and DuckDB sorts with the help of a temporary
folder, so memory stays bounded however long the log is.

The invariant: the batch depends on the records of all parts and on the window, but not on how
parts divide the segments among them, even if two hold the same one. So whatever moment a process
is killed at, however often it is run, by how many at once and in which order of the windows, the
next compaction gives the batch that one undisturbed compaction would have given.
"""

from __future__ import annotations

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
    SCHEMA,
    as_utc,
    common_schema,
    conformed,
    join_records,
    read_records,
)
from airflow_mlops_provider.steps.segments import LogKind, Part, gather_parts, n_unreadable
from airflow_mlops_provider.workspace import checked_name, join, store_by_content

KEY = ["request_id", "row", "deployment", "attempt"]
"""What makes two records of the log the same prediction."""
_PREDICTIONS = LogKind("prediction log", read_records, join_records)
_ROWS_AT_ONCE = 50_000
_TS = SCHEMA.get_field_index("ts")
_SORT_MEMORY = "256MB"
_ZSTD = {"compression": "zstd"}


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
        ParameterError: ``endpoint`` is no name, an end of the window is no time, or the window
            does not end after it starts.
    """
    start, end = _moment(window_start, "window_start"), _moment(window_end, "window_end")
    _require_window(start, end)
    folder = join(workspace, "predictions", checked_name(endpoint, "endpoint", "compact_log"))
    parts = _gather(log_folder, join(folder, "parts"))
    fs, _ = url_to_fs(folder)
    uri, digest, found = _store_batch(folder, fs, parts, (start, end))
    return PredictionBatchRef(
        uri=uri,
        n_rows=found.n_rows,
        file_hash=digest,
        model_versions=sorted(found.model_versions),
        window_start=start.isoformat() if start else found.first,
        window_end=end.isoformat() if end else found.last,
        n_unreadable=n_unreadable(parts),
    )


def _gather(log_folder: str, folder: str) -> list[Part]:
    try:
        return gather_parts(log_folder, folder, _PREDICTIONS)
    except FileNotFoundError as error:
        raise DataError(
            f"No prediction log at {log_folder}. The serving host writes it with the first "
            "request: check the endpoint's name, or send it traffic first."
        ) from error


def _require_window(start: datetime | None, end: datetime | None) -> None:
    if start and end and end <= start:
        raise ParameterError(
            "The window_end parameter of compact_log must be after window_start. Got "
            f"{start.isoformat()} to {end.isoformat()} instead. Data intervals are empty under "
            "Airflow's CronTriggerTimetable, which '@hourly' means: schedule the DAG with a "
            "CronDataIntervalTimetable, or subtract the length of the window from its end."
        )


def _within(part: pa.Table, start: datetime | None, end: datetime | None) -> pa.Table:
    if start:
        part = part.filter(pc.greater_equal(part["ts"], pa.scalar(start, part["ts"].type)))
    if end:
        part = part.filter(pc.less(part["ts"], pa.scalar(end, part["ts"].type)))
    return part


def _store_batch(
    folder: str, fs: Any, parts: list[Part], window: tuple[datetime | None, datetime | None]
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
    part = pq.ParquetFile(file)
    groups = [
        i for i in range(part.num_row_groups) if _overlaps(part.metadata.row_group(i), window)
    ]
    with pq.ParquetWriter(path, schema) as writer:
        for batch in part.iter_batches(_ROWS_AT_ONCE, row_groups=groups):
            writer.write_table(conformed(_within(pa.Table.from_batches([batch]), *window), schema))


def _overlaps(group: Any, window: tuple[datetime | None, datetime | None]) -> bool:
    """Tell whether a row group may have rows in the window."""
    times = group.column(_TS).statistics
    start, end = window
    if times is None or not times.has_min_max:
        return True
    return (start is None or times.max >= start) and (end is None or times.min < end)


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
