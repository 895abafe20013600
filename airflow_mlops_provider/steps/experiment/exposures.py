"""Who was served by which deployment: exposures, read from the prediction log of an endpoint."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.json as pj
from fsspec.core import url_to_fs

from airflow_mlops_provider.steps.prediction_log import read_records
from airflow_mlops_provider.steps.sources import TIME, parts_of

_SCHEMA = pa.schema(
    {
        "request_id": pa.string(),
        "entity_id": pa.string(),
        "deployment": pa.string(),
        "ts": pa.string(),
        "shadow": pa.bool_(),
    }
)
_COLUMNS = _SCHEMA.names


def read_exposures(
    log: str, *, deployments: Collection[str], start: float, end: float
) -> pd.DataFrame:
    """Return each request that one of ``deployments`` answered, once, by its first attempt.

    Requests that failed count too, for who is left out must not depend on the deployment.

    Args:
        log: The endpoint's prediction log: the folder of its segments, of which the closed ones
            are read, or compacted Parquet (a path, folder, glob or fsspec URI).
        deployments: Names of the deployments that are compared.
        start: First moment to keep, in seconds since the epoch.
        end: First moment not to keep.

    Returns:
        ``request_id``, ``entity_id`` (or null), ``deployment`` and ``ts`` (UTC), sorted by time.

    Raises:
        DataError: Parquet lacks a column or is broken, or there is no file.
    """
    tables = _segments(log, start)
    if tables is None:
        tables = [
            pa.Table.from_batches([batch])
            for part in parts_of(log)
            for batch in part.batches(_COLUMNS)
        ]
    tables = [_within(table, deployments, start, end) for table in tables]
    frame: pd.DataFrame = pa.concat_tables([_empty(), *tables]).to_pandas()
    frame = frame.sort_values(["ts", "deployment"], kind="stable")
    return frame.drop_duplicates("request_id").reset_index(drop=True)


def _segments(log: str, start: float) -> list[pa.Table] | None:
    """Read the segments that may hold something since ``start``; None if there are none at all."""
    fs, path = url_to_fs(log)
    if not fs.isdir(path):
        return None
    files = [
        file for file in fs.ls(path, detail=True) if file["name"].endswith((".jsonl", ".open"))
    ]
    if not files:
        return None
    tables = []
    for file in files:
        written = file.get("mtime")
        if file["name"].endswith(".open") or (written is not None and written < start):
            continue
        with fs.open(file["name"], "rb") as segment:
            tables.append(_parsed(segment.read()))
    return tables


def _parsed(lines: bytes) -> pa.Table:
    if not lines.strip():
        return _SCHEMA.empty_table()
    try:
        table = pj.read_json(
            pa.BufferReader(lines),
            parse_options=pj.ParseOptions(
                explicit_schema=_SCHEMA, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowInvalid:  # a torn last line, or one with other types, which only this forgives
        table, _ = read_records(lines.splitlines(keepends=True))
    return table.select(_COLUMNS)


def _within(table: pa.Table, deployments: Collection[str], start: float, end: float) -> pa.Table:
    frame: pd.DataFrame = table.to_pandas()
    frame["ts"] = pd.to_datetime(frame["ts"], utc=True, format="ISO8601", errors="coerce")
    first, last = (datetime.fromtimestamp(moment, UTC) for moment in (start, end))
    kept = frame[
        frame["deployment"].isin(list(deployments))
        & ~frame["shadow"].fillna(False).astype(bool)
        & (frame["ts"] >= first)
        & (frame["ts"] < last)
    ]
    columns: dict[str, Any] = {name: kept[name] for name in _empty().column_names}
    return pa.Table.from_pandas(pd.DataFrame(columns), _empty().schema, preserve_index=False)


def _empty() -> pa.Table:
    fields = [field for field in _SCHEMA if field.name not in ("ts", "shadow")]
    return pa.schema([*fields, pa.field("ts", TIME)]).empty_table()
