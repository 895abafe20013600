"""Some columns of predictions or labels, under the names by which they are joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.steps.sources import TIME

_ROWS_AT_ONCE = 50_000


def narrowed(uri: str, columns: Mapping[str, str]) -> Iterator[pa.Table]:
    """Give some columns of a Parquet file bit by bit, under the names that ``columns`` maps.

    Raises:
        DataError: the file is gone or broken, or lacks a column.
    """
    with readable(uri), fsspec.open(uri, "rb") as file:
        parquet = pq.ParquetFile(file)
        require(parquet.schema_arrow.names, list(columns.values()), uri)
        wanted = list(dict.fromkeys(columns.values()))
        none = parquet.schema_arrow.empty_table().select(wanted).combine_chunks()
        yield _renamed(none, columns, uri)  # so that a file without rows has columns, too
        for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=wanted):
            yield _renamed(batch, columns, uri)


def require(present: Sequence[str], wanted: Sequence[str], uri: str) -> None:
    """Check that a file has the columns ``wanted``.

    Raises:
        DataError: it lacks some.
    """
    missing = [name for name in wanted if name not in present]
    if missing:
        raise DataError(
            f"Expected columns {missing} in {uri}, got {sorted(present)}. Correct the names, or "
            "the step that wrote it."
        )


def _renamed(rows: Any, columns: Mapping[str, str], uri: str) -> pa.Table:
    return pa.table(
        {name: _times(name, rows.column(column), column, uri) for name, column in columns.items()}
    )


def _times(name: str, values: Any, column: str, uri: str) -> Any:
    """Return what has to be times as our times."""
    if name not in ("event", "ts") and not (
        name == "updated" and pa.types.is_temporal(values.type)
    ):
        return values
    try:
        return values.cast(TIME)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"Expected times in column {column!r} of {uri}, got {values.type}: {error}. Name "
            "another column, or write times into this one."
        ) from error
