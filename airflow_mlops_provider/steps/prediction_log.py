"""The records of the prediction log as an Arrow table, whatever JSON values the inputs had.

Input columns are booleans, integers or floats as far as all their values allow, and text
otherwise. Joining tables widens columns step by step in that order, so the outcome does not
depend on the order of joining.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_mlops_provider.scores import numeric_score

if TYPE_CHECKING:
    import pandas as pd

INPUT = "input."
"""Prefix of the columns that hold the model's inputs."""
SCHEMA = pa.schema(
    {
        "request_id": pa.string(),
        "row": pa.int64(),
        "ts": pa.timestamp("us", tz="UTC"),
        "endpoint": pa.string(),
        "deployment": pa.string(),
        "model_uri": pa.string(),
        "entity_id": pa.string(),
        "score": pa.float64(),
        "output": pa.string(),
        "status": pa.int64(),
        "error_class": pa.string(),
        "latency_ms": pa.float64(),
        "attempt": pa.int64(),
        "shadow": pa.bool_(),
        "refused_inputs": pa.string(),
    }
)
_NUMBERS = {pa.bool_(): bool, pa.int64(): int, pa.float64(): float}
"""Each fits into the next."""
_CLIENT_ERROR = 400


def without_shadows(log: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions that somebody was given."""
    return log[~log["shadow"].astype(bool)]


def answered(log: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each answered prediction: its last attempt that gave an answer."""
    rows = log[log["status"] < _CLIENT_ERROR]
    return rows.sort_values("attempt", kind="stable").drop_duplicates(
        ["request_id", "row"], keep="last"
    )


def read_records(lines: Iterable[bytes]) -> tuple[pa.Table, int]:
    """Return the lines of a segment as a table, and how many of them could not be read.

    A killed process leaves its last line torn, so an unreadable line is counted and no error.
    """
    rows = [_row(line) for line in lines]
    readable = [row for row in rows if row is not None]
    inputs = sorted({name for row in readable for name in row if name.startswith(INPUT)})
    columns = {
        field.name: pa.array([row[field.name] for row in readable], field.type) for field in SCHEMA
    }
    columns |= {name: _input([row.get(name) for row in readable]) for name in inputs}
    return pa.table(columns), len(rows) - len(readable)


def join_records(tables: list[pa.Table]) -> pa.Table:
    """Put tables of records below each other, each with all input columns of any."""
    schema = common_schema([table.schema for table in tables])
    alike = [conformed(table, schema) for table in tables]
    return pa.concat_tables([schema.empty_table(), *alike])


def common_schema(parts: Iterable[pa.Schema]) -> pa.Schema:
    """Return the schema that tables of records meet in: every input, as wide as its widest."""
    kinds: dict[str, set[pa.DataType]] = {}
    for part in parts:
        for field in part:
            kinds.setdefault(field.name, set()).add(field.type)
    inputs = sorted(name for name in kinds if name.startswith(INPUT))
    return pa.schema([*SCHEMA, *(pa.field(name, _common_kind(kinds[name])) for name in inputs)])


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table of records with the columns and types of a common ``schema``."""
    columns = [
        _cast(table[field.name], field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def as_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; a naive one is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _row(line: bytes) -> dict[str, Any] | None:
    """Return a line of the log as values of the part's columns, or None if it is torn."""
    try:
        entry = _parsed(line)
        score = numeric_score(entry["outputs"])
        status, inputs = int(entry["status"]), dict(entry["inputs"] or {})
        # one client's mistake must not turn a column of numbers into text
        refused = inputs if 400 <= status < 500 else {}
        return {
            "request_id": str(entry["request_id"]),
            "row": int(entry["row"]),
            "ts": as_utc(datetime.fromisoformat(entry["ts"])),
            "endpoint": _text(entry["endpoint"]),
            "deployment": _text(entry["deployment"]),
            "model_uri": _text(entry["model_uri"]),
            "entity_id": _text(entry["entity_id"]),
            "score": score,
            "output": _text(entry["outputs"]) if score is None else None,
            "status": status,
            "error_class": _text(entry["error_class"]),
            "latency_ms": _number(entry["latency_ms"]),
            "attempt": int(entry["attempt"]),
            "shadow": bool(entry["shadow"]),
            "refused_inputs": _text(refused) if refused else None,
            **{INPUT + name: value for name, value in inputs.items() if not refused},
        }
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _parsed(line: bytes) -> Any:
    entry = json.loads(line)
    if rb"\ud" not in line:
        return entry
    # JSON may escape half a surrogate pair, which is no text that Parquet could hold
    return json.loads(json.dumps(entry, ensure_ascii=False).encode(errors="replace"))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _input(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    try:
        if kinds and kinds <= set(_NUMBERS.values()):
            widest = max(kinds, key=list(_NUMBERS.values()).index)
            return pa.array([None if value is None else widest(value) for value in values])
    except OverflowError:
        kinds.add(str)
    return pa.array([_mixed(value) for value in values], pa.string() if kinds else pa.null())


def _mixed(value: Any) -> str | None:
    """Return a value as text; a number as a float, whichever way it came."""
    return repr(float(value)) if isinstance(value, int | float) else _text(value)


def _common_kind(kinds: set[pa.DataType]) -> pa.DataType:
    kinds = kinds - {pa.null()}
    if not kinds:
        return pa.null()
    return max(kinds, key=list(_NUMBERS).index) if kinds <= set(_NUMBERS) else pa.string()


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if kind == pa.string() and column.type in _NUMBERS:
        return pa.chunked_array([[_mixed(value) for value in column.to_pylist()]], kind)
    return column.cast(kind, safe=False)
