"""The closed segments of a log as Parquet *parts*, each segment read once.

A part appears whole, together with the list of segments it holds, so whatever moment a process
is killed at, the next one reads just the segments that no part holds yet. Two processes at once
may both store a segment; who reads the parts has to take repeated records as one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.workspace import store_by_content

PART_ROWS = 100_000
"""A part takes up segments until it has so many rows."""
_ROWS_AT_ONCE = 50_000
_SEGMENTS = b"segments"


@dataclass(frozen=True)
class Part:
    """A stored part."""

    path: str
    schema: pa.Schema
    unreadable: dict[str, int]
    """Name of each segment in the part to the number of its lines that could not be read."""


@dataclass(frozen=True)
class LogKind:
    """What is particular to the records of a log."""

    name: str
    """What errors call it."""
    read: Callable[[Iterable[bytes]], tuple[pa.Table, int]]
    """Turns the lines of a segment into a table and the number of those it cannot read."""
    joined: Callable[[list[pa.Table]], pa.Table]
    """Puts several such tables below each other."""


@dataclass(frozen=True)
class _Segment:
    name: str
    """File name and size: a segment never changes once it is closed."""
    path: str


def gather_parts(log_folder: str, folder: str, kind: LogKind) -> list[Part]:
    """Store the segments that no part in ``folder`` holds yet, and return all its parts.

    Args:
        log_folder: URI of the folder with the log's ``*.jsonl`` files; others are ignored.
        folder: URI of the folder of the parts.
        kind: What the records are.

    Raises:
        DataError: a file in ``log_folder`` holds no such record at all, or a part is broken.
        FileNotFoundError: there is no folder ``log_folder``.
    """
    parts = _read_parts(folder)
    known = {name for part in parts for name in part.unreadable}
    new = [each for each in _closed_segments(log_folder) if each.name not in known]
    return [*parts, *_store_segments(log_folder, new, folder, kind)]


def n_unreadable(parts: Iterable[Part]) -> int:
    """Return how many lines of the segments could not be read."""
    return sum({name: n for part in parts for name, n in part.unreadable.items()}.values())


def _closed_segments(log_folder: str) -> list[_Segment]:
    fs, path = url_to_fs(log_folder)
    return [
        _Segment(f"{file['name'].rpartition('/')[2]} {file['size']}", file["name"])
        for file in fs.ls(path, detail=True)
        if file["name"].endswith(".jsonl")
    ]


def _store_segments(
    log_folder: str, segments: list[_Segment], folder: str, kind: LogKind
) -> Iterator[Part]:
    """Store segments as parts, several to a part as long as they are small."""
    fs, _ = url_to_fs(log_folder)
    tables: list[pa.Table] = []
    unreadable: dict[str, int] = {}
    for segment in segments:
        with fs.open(segment.path, "rb") as file:
            table, unreadable[segment.name] = kind.read(file)
        if unreadable[segment.name] > 1 and not table.num_rows:
            raise DataError(
                f"No line of {segment.path} is a record of a {kind.name}. Move the file away, "
                "or point log_folder to the folder that the serving host writes."
            )
        tables.append(table)
        if sum(each.num_rows for each in tables) >= PART_ROWS:
            yield _store_part(folder, kind.joined(tables), unreadable)
            tables, unreadable = [], {}
    if tables:
        yield _store_part(folder, kind.joined(tables), unreadable)


def _store_part(folder: str, table: pa.Table, unreadable: dict[str, int]) -> Part:
    metadata = {_SEGMENTS: json.dumps(unreadable, sort_keys=True)}
    table = table.replace_schema_metadata(metadata)

    def write(uri: str) -> None:
        with fsspec.open(uri, "wb") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=_ROWS_AT_ONCE)

    uri, _ = store_by_content(folder, ".parquet", write)
    return Part(url_to_fs(uri)[1], table.schema, unreadable)


def _read_parts(folder: str) -> list[Part]:
    fs, path = url_to_fs(folder)
    if not fs.exists(path):
        return []
    names = [name for name in fs.ls(path, detail=False) if name.endswith(".parquet")]
    return [_read_part(fs, name) for name in sorted(names)]


def _read_part(fs: Any, name: str) -> Part:
    with readable(name), fs.open(name, "rb") as file:
        schema = pq.read_schema(file)
    listed = (schema.metadata or {}).get(_SEGMENTS)
    if listed is None:
        raise DataError(f"{name} is no part of a log. Move it away; its segments are read again.")
    return Part(name, schema, json.loads(listed))
