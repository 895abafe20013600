"""What became of requests or entities: the outcomes that an experiment is decided on.

Outcomes are rows of ``request_id`` or ``entity_id``, ``ts`` (when it happened) and ``value``.
They come from files, from a function, or from wherever the caller reads tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.importing import import_object
from airflow_mlops_provider.steps.sources import normalised, parts_of, require_columns
from airflow_mlops_provider.steps.tables import as_table, in_pieces

KEYS = ("request_id", "entity_id")
_FILES = (".parquet", ".csv", ".csv.gz", ".csv.zip")


def read_outcomes(
    source: str | Callable[..., Any],
    *,
    start: datetime,
    end: datetime,
    arguments: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Read outcomes from files or a function.

    Args:
        source: Parquet or CSV files (a path, folder, glob or fsspec URI), or a function or its
            import path; it is called with ``start`` and ``end`` and returns a pandas frame or an
            Arrow table, or yields several.
        start: When the experiment began; earlier outcomes are of no use.
        end: When the look is taken.
        arguments: Further keyword arguments of the function.

    Raises:
        DataError: a column is missing, or a value is no number.
        ParameterError: ``source`` names neither files nor a function.
    """
    if isinstance(source, str) and _names_files(source):
        return outcome_frame(
            (
                pa.Table.from_batches([batch])
                for part in parts_of(source)
                for batch in part.batches()
            ),
            source,
        )
    function = source if callable(source) else import_object(source, "outcomes", "an experiment")
    where = f"{function.__module__}.{getattr(function, '__qualname__', function)}"
    pieces = in_pieces(function(start=start, end=end, **(arguments or {})))
    return outcome_frame((as_table(piece, where) for piece in pieces), where)


def require_source(source: str | Callable[..., Any], caller: str) -> None:
    """Check that ``source`` names files or a function that can be imported.

    Raises:
        ParameterError: it does not.
    """
    if not callable(source) and not _names_files(source):
        import_object(source, "outcomes", caller)


def outcome_frame(tables: Iterable[pa.Table], where: str) -> pd.DataFrame:
    """Return outcome tables as one frame of a key (text), ``ts`` (UTC) and ``value`` (float).

    Rows without a key, a time or a value are left out: their outcome has not come yet.

    Raises:
        DataError: a column is missing, or a value is no number.
    """
    frames = [_frame(normalised(table, where), where) for table in tables]
    if not frames:
        return pd.DataFrame(
            {
                KEYS[0]: pd.Series(dtype=str),
                "ts": pd.Series(dtype="datetime64[us, UTC]"),
                "value": pd.Series(dtype=float),
            }
        )
    return pd.concat(frames, ignore_index=True)


def _frame(table: pa.Table, where: str) -> pd.DataFrame:
    key = KEYS[0] if KEYS[0] in table.column_names else KEYS[1]
    require_columns(table.column_names, [key, "ts", "value"], where)
    frame = table.select([key, "ts", "value"]).to_pandas().dropna()
    try:
        return pd.DataFrame(
            {
                key: frame[key].astype(str),
                "ts": pd.to_datetime(frame["ts"], utc=True),
                "value": frame["value"].astype(float),
            }
        )
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The outcomes of {where} need times as ts and numbers as value: {error}. Correct "
            "these columns."
        ) from error


def _names_files(source: str) -> bool:
    return "/" in source or "*" in source or source.endswith(_FILES)
