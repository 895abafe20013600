"""The outcomes that clients sent to the serving host, as rows that can be joined."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from airflow_mlops_provider.steps.prediction_log import as_utc
from airflow_mlops_provider.steps.segments import LogKind, gather_parts, n_unreadable
from airflow_mlops_provider.steps.sources import TIME
from airflow_mlops_provider.workspace import checked_name, join

ENTITY = "entity_id"
SCHEMA = pa.schema(
    {
        "feedback_id": pa.string(),
        "request_id": pa.string(),
        "row": pa.int64(),
        ENTITY: pa.string(),
        "event_ts": TIME,
        "received_at": TIME,
        "number": pa.float64(),
        "text": pa.string(),
    }
)
"""The columns of a part; of ``number`` and ``text``, one holds the label."""
_MEMORY = "256MB"
_DISTINCT = """
    COPY (
        SELECT request_id, row, event_ts, received_at, {label} AS label,
            CASE WHEN request_id IS NULL THEN entity_id END AS entity_id
        FROM read_parquet($parts)
        QUALIFY 1 = row_number() OVER (PARTITION BY feedback_id
            ORDER BY received_at, request_id, row, entity_id, event_ts, number, text)
    ) TO $path (FORMAT parquet)
"""


@dataclass(frozen=True)
class Feedback:
    """What was sent, each ``feedback_id`` once."""

    path: str
    """Parquet with ``request_id``, ``row``, ``event_ts``, ``received_at``, ``label`` and, where
    no request is named, ``entity_id``."""
    n_unreadable: int


@contextmanager
def gathered_feedback(log_folder: str, *, endpoint: str, workspace: str) -> Iterator[Feedback]:
    """Gather the closed segments of an endpoint's feedback in a temporary file.

    Segments are read once, and kept as Parquet in ``{workspace}/predictions/{endpoint}/feedback``.

    Raises:
        DataError: a file in ``log_folder`` is no feedback.
        ParameterError: ``endpoint`` is no name.
    """
    folder = join(workspace, "predictions", checked_name(endpoint, "endpoint", "join_feedback"))
    folder = join(folder, "feedback")
    try:
        parts = gather_parts(log_folder, folder, _FEEDBACK)
    except FileNotFoundError:  # nobody has sent any
        parts = []
    fs, _ = url_to_fs(folder)
    with tempfile.TemporaryDirectory(prefix="mlops-feedback-") as scratch:
        pq.write_table(SCHEMA.empty_table(), f"{scratch}/none.parquet")
        for place, part in enumerate(parts):
            fs.get_file(part.path, f"{scratch}/{place}.parquet")
        _write_distinct(scratch)
        yield Feedback(f"{scratch}/feedback", n_unreadable(parts))


def read_feedback(lines: Iterable[bytes]) -> tuple[pa.Table, int]:
    """Return the lines of a segment as a table, and how many of them could not be read."""
    rows = [_row(line) for line in lines]
    readable = [row for row in rows if row is not None]
    return pa.Table.from_pylist(readable, SCHEMA), len(rows) - len(readable)


_FEEDBACK = LogKind("feedback log", read_feedback, pa.concat_tables)


def _row(line: bytes) -> dict[str, Any] | None:
    """Return a line of the log as values of the part's columns, or None if it is torn."""
    try:
        entry = json.loads(line)
        if rb"\ud" in line:  # half a surrogate pair is no text that Parquet could hold
            json.dumps(entry, ensure_ascii=False).encode()
        label, event = entry["label"], entry["event_ts"]
        return {
            "feedback_id": str(entry["feedback_id"]),
            "request_id": entry["request_id"],
            "row": entry["row"],
            ENTITY: entry[ENTITY],
            "event_ts": as_utc(datetime.fromisoformat(event)) if event else None,
            "received_at": as_utc(datetime.fromisoformat(entry["received_at"])),
            "number": None if isinstance(label, str) else float(label),
            "text": label if isinstance(label, str) else None,
        }
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _write_distinct(scratch: str) -> None:
    parts = {"parts": f"{scratch}/*.parquet"}
    config: dict[str, Any] = {"memory_limit": _MEMORY, "temp_directory": scratch, "threads": 2}
    with duckdb.connect(config=config) as database:
        database.execute("SET TimeZone = 'UTC'")
        texts = database.execute("SELECT count(text) FROM read_parquet($parts)", parts).fetchone()
        label = "COALESCE(text, number::VARCHAR)" if texts and texts[0] else "number"
        database.execute(_DISTINCT.format(label=label), {**parts, "path": f"{scratch}/feedback"})
