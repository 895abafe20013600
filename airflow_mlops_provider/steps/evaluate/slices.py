"""Cut rows into slices: by the values of a column, by bins, or by an expression."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import SliceMetric
from airflow_mlops_provider.steps.metrics.groups import by_group

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_mlops_provider.steps.metrics.figures import Figure, Sample

MAX_SLICES = 200


@dataclass(frozen=True)
class Cut:
    """Rows cut into named groups."""

    column: str
    names: list[str]
    codes: NDArray[np.intp]
    """Shape (n,), index into ``names``; -1 for rows of no slice."""


def slice_metrics(
    frame: pd.DataFrame,
    sample: Sample,
    slices: Sequence[str | Mapping[str, Any]],
    figures: Mapping[str, Figure],
    *,
    min_rows: int,
    confidence: float,
) -> list[SliceMetric]:
    """Return the figures of each slice with enough rows, at most 200, the worst first."""
    found = [
        (figure.greater_is_better, metric)
        for declared in slices
        for cut in (cut_rows(frame, declared),)
        for name, figure in figures.items()
        for metric in _of_cut(cut, sample, name, figure, min_rows, confidence)
    ]
    found.sort(key=lambda each: each[1].score if each[0] else -each[1].score)
    return [metric for _, metric in found[:MAX_SLICES]]


def cut_rows(frame: pd.DataFrame, declared: str | Mapping[str, Any]) -> Cut:
    """Return the groups that a declaration of a slice makes of ``frame``.

    Raises:
        DataError: it names a column that the dataset lacks.
        ParameterError: it is not a column, bins of a column, or a named expression.
    """
    if isinstance(declared, str):
        declared = {"column": declared}
    if "where" in declared:
        return _where(frame, str(declared["where"]), str(declared.get("name", declared["where"])))
    if "column" not in declared:
        shape = "a column name, {'column', 'bins'} or {'name', 'where'}"
        raise ParameterError.of("slices", "evaluate", shape, dict(declared))
    column = str(declared["column"])
    values = _column(frame, column)
    if "bins" in declared:
        values = _binned(values, declared["bins"])
    codes, levels = pd.factorize(values, sort=True)
    return Cut(column, [str(level) for level in levels], codes)


def _column(frame: pd.DataFrame, column: str) -> pd.Series[Any]:
    if column not in frame.columns:
        raise DataError(
            f"Expected the slice column {column!r}, got {sorted(frame.columns)}. Correct "
            "`slices`, or the step before."
        )
    return frame[column]


def _binned(values: pd.Series[Any], bins: Any) -> pd.Series[Any]:
    try:
        if isinstance(bins, int):
            return pd.qcut(values, bins, duplicates="drop")
        return pd.cut(values, list(bins), include_lowest=True)
    except (ValueError, TypeError) as error:
        raise ParameterError.of(
            f"slices[{values.name!r}]['bins']", "evaluate", f"bins of that column ({error})", bins
        ) from error


def _where(frame: pd.DataFrame, expression: str, name: str) -> Cut:
    try:
        inside = np.asarray(frame.eval(expression), dtype=bool)
        reason = "" if inside.shape == (len(frame),) else "not a value for each row"
    except Exception as error:  # noqa: BLE001 - pandas raises whatever the expression does
        reason = str(error)
    if reason:
        constraint = f"true or false of each row ({reason})"
        raise ParameterError.of(f"slices[{name!r}]['where']", "evaluate", constraint, expression)
    return Cut("where", [name], np.where(inside, 0, -1))


def _of_cut(
    cut: Cut, sample: Sample, name: str, figure: Figure, min_rows: int, confidence: float
) -> Iterator[SliceMetric]:
    rows = np.bincount(cut.codes[cut.codes >= 0], minlength=len(cut.names))
    found = by_group(figure, sample, cut.codes, len(cut.names))
    for value, n, estimate in zip(cut.names, rows, found, strict=True):
        if estimate is None or n < min_rows:
            continue
        metric = estimate.metric(confidence)
        yield SliceMetric(
            column=cut.column,
            value=value,
            metric=name,
            score=metric.value,
            n=int(n),
            low=metric.low,
            high=metric.high,
        )
