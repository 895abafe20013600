"""Turn the prediction log of an endpoint into Parquet that monitoring can read.

1. The closed segments that are new since last time become one *part*, which carries their names:
   ``{workspace}/predictions/{endpoint}/parts/{sha256}.parquet``.
2. All parts are joined, stripped of repeated records and sorted into one *batch*, which is named
   by its content: ``{workspace}/predictions/{endpoint}/{sha256}.parquet``.

The invariant: a part appears whole, together with the list of segments it holds; the batch
depends on the records of all parts and on the window, but not on how parts divide the segments
among them, even if two hold the same one. So whatever moment a process is killed at, and however
often it is run, the next compaction reads just the segments that no part holds yet, and gives
the batch that one undisturbed compaction would have given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import PredictionBatchRef
from airflow_mlops_provider.steps.prediction_log import as_utc, join_records, read_records
from airflow_mlops_provider.workspace import checked_name, join, store_by_content

KEY = ["request_id", "row", "deployment", "attempt"]
"""What makes two records of the log the same prediction."""
_SEGMENTS = b"segments"


@dataclass(frozen=True)
class _Segment:
    name: str
    """File name and size: a segment never changes once it is closed."""
    path: str


@dataclass(frozen=True)
class _Part:
    table: pa.Table
    unreadable: dict[str, int]
    """Name of each segment in the part to the number of its lines that could not be read."""


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
    if new:
        part = _read_segments(log_folder, new)
        _store(join(folder, "parts"), part.table)
        parts.append(part)
        unreadable |= part.unreadable
    batch = _batch([_within(part.table, start, end) for part in parts])
    uri, digest = _store(folder, batch)
    first, last = _span(batch)
    return PredictionBatchRef(
        uri=uri,
        n_rows=batch.num_rows,
        file_hash=digest,
        model_versions=sorted(filter(None, pc.unique(batch["model_uri"]).to_pylist())),
        window_start=start.isoformat() if start else first,
        window_end=end.isoformat() if end else last,
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


def _read_segments(log_folder: str, segments: list[_Segment]) -> _Part:
    fs, _ = url_to_fs(log_folder)
    tables, unreadable = [], {}
    for segment in segments:
        with fs.open(segment.path, "rb") as file:
            table, unreadable[segment.name] = read_records(file)
        if unreadable[segment.name] > 1 and not table.num_rows:
            raise DataError(
                f"No line of {segment.path} is a record of a prediction log. Move the file away, "
                "or point log_folder to the folder that the serving host writes."
            )
        tables.append(table)
    metadata = {_SEGMENTS: json.dumps(unreadable, sort_keys=True)}
    return _Part(join_records(tables).replace_schema_metadata(metadata), unreadable)


def _read_parts(folder: str) -> list[_Part]:
    fs, path = url_to_fs(folder)
    if not fs.exists(path):
        return []
    parts = []
    for name in fs.ls(path, detail=False):
        if name.endswith(".parquet"):
            with fs.open(name, "rb") as file:
                table = pq.read_table(file)
            parts.append(_Part(table, json.loads(table.schema.metadata[_SEGMENTS])))
    return parts


def _within(part: pa.Table, start: datetime | None, end: datetime | None) -> pa.Table:
    if start:
        part = part.filter(pc.greater_equal(part["ts"], pa.scalar(start, part["ts"].type)))
    if end:
        part = part.filter(pc.less(part["ts"], pa.scalar(end, part["ts"].type)))
    return part


def _batch(parts: list[pa.Table]) -> pa.Table:
    """Join parts into one sorted table without repeated predictions; of these the first stays."""
    table = join_records(parts)
    names = dict.fromkeys(["ts", *KEY, *table.column_names])
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in names])
    table = table.take(order)
    repeated = table.select(KEY).to_pandas().duplicated()
    return table.filter(pa.array(~repeated.to_numpy())).combine_chunks()


def _store(folder: str, table: pa.Table) -> tuple[str, str]:
    def write(uri: str) -> None:
        with fsspec.open(uri, "wb") as file:
            pq.write_table(table, file, compression="zstd")

    return store_by_content(folder, ".parquet", write)


def _span(batch: pa.Table) -> tuple[str | None, str | None]:
    """Return the times of the first and the last row."""
    if not batch.num_rows:
        return None, None
    times = batch["ts"]
    return times[0].as_py().isoformat(), times[-1].as_py().isoformat()


def _moment(value: str | datetime | None, name: str) -> datetime | None:
    if value in (None, ""):
        return None
    try:
        return as_utc(value if isinstance(value, datetime) else datetime.fromisoformat(str(value)))
    except ValueError as error:
        raise ParameterError.of(name, "compact_log", "an ISO 8601 time", value) from error
