"""The same figures within the values of a column: a model version, an airport, a customer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from airflow_mlops_provider.records import SegmentReport
from airflow_mlops_provider.steps.monitor.log import quoted
from airflow_mlops_provider.steps.monitor.performance import figures_of_sample
from airflow_mlops_provider.steps.monitor.service import SERVER_ERROR

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlops_provider.steps.metrics.figures import Task
    from airflow_mlops_provider.steps.monitor.log import PredictionLog
    from airflow_mlops_provider.steps.monitor.performance import Labelled

MAX_VALUES = 20
"""Of a column, the commonest."""
MAX_SEGMENTS = 100
GROUP_ROWS = 100
"""That a group needs for figures of its own."""


def segment_columns(
    log: PredictionLog, names: tuple[str, ...], every_model: bool
) -> dict[str, str]:
    """Return name to column of the log; if all models are looked at, they are segments, too."""
    columns = log.columns_of(names, "segments")
    if every_model and log.one(["count(DISTINCT model_uri)"], view="live")[0] > 1:
        columns.setdefault("model_uri", "model_uri")
    return columns


def segments_of(
    log: PredictionLog,
    columns: Mapping[str, str],
    scored: pd.DataFrame,
    labelled: Labelled,
    task: Task,
) -> list[SegmentReport]:
    """Return service figures, mean score and, of 100 labels on, the figures of each segment."""
    found = [
        each
        for name, column in columns.items()
        for each in _of_column(log, name, column, scored, labelled, task)
    ]
    return found[:MAX_SEGMENTS]


def _of_column(
    log: PredictionLog,
    name: str,
    column: str,
    scored: pd.DataFrame,
    labelled: Labelled,
    task: Task,
) -> list[SegmentReport]:
    value = f"CAST({quoted(column)} AS VARCHAR)"
    counted = log.all(
        f"SELECT {value}, count(*), count(*) FILTER (status >= {SERVER_ERROR}), "  # noqa: S608 - quoted
        f"quantile_cont(latency_ms, 0.95) FROM live WHERE {value} IS NOT NULL "
        f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {MAX_VALUES}"
    )
    scores = scored["score"].to_numpy(float)
    found = []
    for level, n, failed, p95 in counted:
        inside = scores[_is(scored, column, level)]
        rows = np.flatnonzero(_is(labelled.groups, column, level))
        enough = len(rows) >= GROUP_ROWS
        found.append(
            SegmentReport(
                column=name,
                value=str(level),
                n=n,
                error_rate=failed / n,
                latency_p95_ms=p95,
                score_mean=float(inside.mean()) if len(inside) else None,
                n_labelled=len(rows),
                performance=figures_of_sample(labelled.sample.take(rows), task) if enough else {},
            )
        )
    return found


def _is(frame: pd.DataFrame, column: str, level: str) -> np.ndarray:
    if column not in frame:
        return np.zeros(0, bool)
    return np.asarray(frame[column] == level)
