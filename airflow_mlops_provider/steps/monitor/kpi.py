"""Figures of the business in the same window: by SQL, or by a function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.importing import import_object
from airflow_mlops_provider.steps.monitor.settings import finding

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_mlops_provider.records import Finding

Query = Callable[[str, str, Mapping[str, Any]], Iterable["pa.Table"]]
"""Connection id, SQL and its parameters to the rows."""
_KEYS = {"sql", "conn_id", "callable", "min", "max"}


@dataclass(frozen=True)
class Kpi:
    """One figure and what it has to be."""

    value: float | None
    """None if there was nothing to measure."""
    n: int
    """Rows behind it, if the query says so in a column ``n``."""
    least: float | None = None
    most: float | None = None

    @property
    def limit(self) -> float | None:
        """The limit that the figure is beyond; None if it is within."""
        if self.value is None:
            return None
        if self.least is not None and self.value < self.least:
            return self.least
        return self.most if self.most is not None and self.value > self.most else None


def measure_kpis(
    declared: Mapping[str, Mapping[str, Any]] | None,
    *,
    start: datetime | None,
    end: datetime | None,
    query: Query | None = None,
) -> dict[str, Kpi]:
    """Measure each figure in a window.

    Args:
        declared: Name to ``{"sql": …, "conn_id": …}``, a query of one row whose first column is
            the figure and whose column ``n``, if there is one, the rows behind it, with
            ``:window_start`` and ``:window_end`` bound; or to ``{"callable": "pkg.mod.function"}``,
            called with both times. Either may have ``min`` and ``max``.
        start: First moment of the window.
        end: First moment after it.
        query: What runs SQL.

    Raises:
        DataError: a query or function gave something else than one number.
        ParameterError: a declaration has another form.
    """
    times = {"window_start": start, "window_end": end}
    return {
        name: _measured(name, dict(each), times, query) for name, each in (declared or {}).items()
    }


def judge_kpis(kpis: Mapping[str, Kpi], n_predictions: int) -> Finding:
    """Judge all figures; the first that is beyond a limit is the one that is told."""
    for name, kpi in kpis.items():
        if kpi.limit is not None:
            reason = f"{name} is {kpi.value:g}, beyond {kpi.limit:g}."
            n = kpi.n or n_predictions
            return finding("kpi", reason, crossed=True, value=kpi.value, threshold=kpi.limit, n=n)
    known = {name: kpi for name, kpi in kpis.items() if kpi.value is not None}
    if not known:
        return finding("kpi", f"Nothing to measure for {', '.join(kpis)}.", crossed=None)
    reason = "; ".join(f"{name} is {kpi.value:g}" for name, kpi in known.items())
    n = max(kpi.n for kpi in known.values()) or n_predictions
    return finding("kpi", f"{reason}.", crossed=False, n=n)


def _measured(
    name: str, declared: dict[str, Any], times: Mapping[str, Any], query: Query | None
) -> Kpi:
    by_sql = "sql" in declared and "conn_id" in declared
    if set(declared) - _KEYS or by_sql == ("callable" in declared):
        constraint = "either sql and conn_id or callable, and perhaps min and max"
        raise ParameterError.of(f"kpis[{name!r}]", "monitor_model", constraint, declared)
    if by_sql:
        if query is None:
            raise ParameterError.of("query", "monitor_model", "given if a KPI is SQL", query)
        row = _first_row(query(declared["conn_id"], declared["sql"], times))
    else:
        row = {"value": import_object(declared["callable"], "kpis", "monitor_model")(**times)}
    first = next(iter(row.values()), None)
    return Kpi(
        value=_number(name, first),
        n=int(_number(name, row.get("n")) or 0),
        least=_number(name, declared.get("min")),
        most=_number(name, declared.get("max")),
    )


def _first_row(tables: Iterable[pa.Table]) -> dict[str, Any]:
    for table in tables:
        if table.num_rows:
            return dict(table.slice(0, 1).to_pylist()[0])
    return {}


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"Expected a number for the KPI {name!r}, got {value!r}. Let its query or function "
            "give one, or nothing if there is nothing to measure."
        )
    return number
