"""Windows of time: which rows belong to a data interval."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.sources import TIME, require_columns


@dataclass(frozen=True)
class Window:
    """The half-open interval ``[start, end)``; None is without end.

    Rows without a time are in no window, so windows that follow each other hold a row once.
    """

    start: datetime | None
    end: datetime | None
    column: str | None
    """Whose times are meant; without it the window is a label and filters nothing."""

    @classmethod
    def of(
        cls, start: str | datetime | None, end: str | datetime | None, column: str | None = None
    ) -> Window:
        """Return the window between two moments, ISO 8601; naive ones are taken as UTC.

        Raises:
            ParameterError: a moment is none.
        """
        return cls(_moment(start, "window_start"), _moment(end, "window_end"), column)

    def __bool__(self) -> bool:
        return bool(self.start or self.end)

    def __str__(self) -> str:
        return f"{self.start or '...'} to {self.end or '...'}"

    def iso(self) -> tuple[str | None, str | None]:
        """Return both moments as ISO 8601."""
        return _iso(self.start), _iso(self.end)

    def rows(self, rows: Any, where: str) -> Any:
        """Return the rows of a table or batch whose time lies in the window.

        Raises:
            DataError: there is no such column, or it has no times.
        """
        if not self or self.column is None:
            return rows
        require_columns(rows.schema.names, [self.column], where)
        times = _times(rows.column(self.column), self.column, where)
        if self.start:
            keep = pc.greater_equal(times, pa.scalar(self.start, TIME))
            rows, times = rows.filter(keep), times.filter(keep)
        return rows.filter(pc.less(times, pa.scalar(self.end, TIME))) if self.end else rows


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _times(column: Any, name: str, where: str) -> Any:
    try:
        return column.cast(TIME)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"Column {name!r} of {where} has type {column.type}, which is no time: {error}. "
            "Name another column, or write times into this one."
        ) from error


def _moment(value: str | datetime | None, name: str) -> datetime | None:
    if value in (None, ""):
        return None
    try:
        moment = pd.Timestamp(value)
    except ValueError as error:
        raise ParameterError.of(name, "snapshot_dataset", "an ISO 8601 time", value) from error
    aware = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
    return aware.to_pydatetime()
