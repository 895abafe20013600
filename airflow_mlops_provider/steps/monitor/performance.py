"""How good the model is on the predictions whose labels came, and how late they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.metrics.figures import Sample, figure_of
from airflow_mlops_provider.steps.monitor.log import COLUMNS, Scope, open_log, quoted
from airflow_mlops_provider.steps.monitor.settings import finding

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef, Finding, Metric
    from airflow_mlops_provider.steps.metrics.figures import Task
    from airflow_mlops_provider.steps.monitor.log import PredictionLog

LABEL = "label"
LABELLED_AT = "label_ts"
FIGURES: Mapping[str, tuple[str, ...]] = {
    "classification": ("auc", "brier", "log_loss"),
    "regression": ("rmse", "mae"),
}
"""By task; the first is what the baseline is about."""
_SHOWN = 5


@dataclass(frozen=True)
class Labelled:
    """Scores and labels of live, answered predictions, sorted by score and label."""

    sample: Sample
    groups: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Columns to group by, as pandas categories, row for row."""
    delay_median_s: float | None = None
    delay_p95_s: float | None = None
    n_early: int = 0

    def __len__(self) -> int:
        return len(self.sample)


@dataclass(frozen=True)
class Bar:
    """What the first figure has to reach."""

    metric: str
    baseline: float | None
    max_drop: float | None

    @property
    def greater_is_better(self) -> bool:
        """Whether more of the figure is better."""
        return self.metric not in ("rmse", "mae", "brier", "log_loss")

    @property
    def limit(self) -> float | None:
        """The figure from which on it is too bad; None if nothing is asked."""
        if self.baseline is None or self.max_drop is None:
            return None
        if self.greater_is_better:
            return self.baseline - self.max_drop
        return self.baseline * (1 + self.max_drop)

    def is_missed(self, metric: Metric) -> bool:
        """Tell whether all of the figure's interval lies on the wrong side of the limit."""
        if self.limit is None:
            return False
        if self.greater_is_better:
            return metric.high is not None and metric.high < self.limit
        return metric.low is not None and metric.low > self.limit


def labelled_of(
    labelled: DatasetRef | None,
    scope: Scope,
    *,
    task: Task,
    score_column: str,
    label_column: str,
    groups: Sequence[str] = (),
) -> Labelled:
    """Read scores and labels: 16 bytes a row, and 4 for each of ``groups``.

    Raises:
        DataError: a column is missing, or a label is not what the task needs.
    """
    if labelled is None:
        return Labelled(Sample(np.empty(0), np.empty(0)))
    wanted = [*dict.fromkeys([*COLUMNS, score_column, label_column])]
    with open_log(labelled.uri, scope, wanted) as log:
        score, label = quoted(score_column), quoted(label_column)
        known = f"isfinite(TRY_CAST({score} AS DOUBLE)) AND {label} IS NOT NULL"
        _require_labels(log, label, label_column, known, task)
        names = log.columns_of(groups, "segments or fairness").values()
        columns = {name: f"CAST({quoted(name)} AS VARCHAR)" for name in names}
        pair = {"score": f"TRY_CAST({score} AS DOUBLE)", "label": f"CAST({label} AS DOUBLE)"}
        rows = _sorted(log.batches(pair | columns, known), [*pair], [*columns])
        median, late, n_early = _delay(log, known)
    sample = Sample(rows["label"].to_numpy(float), rows["score"].to_numpy(float))
    return Labelled(sample, rows[[*columns]], median, late, n_early)


def scored_rows(log: PredictionLog, columns: Sequence[str]) -> pd.DataFrame:
    """Return the finite scores of answered predictions, sorted, beside columns as categories."""
    texts = {name: f"CAST({quoted(name)} AS VARCHAR)" for name in columns}
    batches = log.batches({"score": "score"} | texts, "isfinite(score)")
    return _sorted(batches, ["score"], [*texts])


def performance_of(labelled: Labelled, task: Task) -> dict[str, Metric]:
    """Return the figures of a task with their 95 % intervals; none where they are not defined."""
    return figures_of_sample(labelled.sample, task)


def figures_of_sample(sample: Sample, task: Task) -> dict[str, Metric]:
    """Return the figures of a sample; probabilities are asked for those of probabilities."""
    if not len(sample) or (task == "classification" and np.unique(sample.truth).size < 2):
        return {}
    names = FIGURES[task]
    if task == "classification" and (sample.score.min() < 0 or sample.score.max() > 1):
        names = names[:1]
    found = {name: figure_of(name, task).estimate(sample) for name in names}
    return {name: each.metric() for name, each in found.items() if each is not None}


def judge_performance(
    performance: Mapping[str, Metric],
    labelled: Labelled,
    coverage: float | None,
    bar: Bar,
    min_rows: int,
) -> Finding:
    """Judge the first figure by its whole interval."""
    n = len(labelled)
    metric = performance.get(bar.metric)
    if metric is None:
        lacking = f"{n} labelled predictions without both classes" if n else "no label has come"
        reason = f"Quality is unknown: {lacking}."
        return finding("performance", reason, crossed=None, n=n)
    name = bar.metric.upper().replace("_", " ")
    reached = "" if coverage is None else f", {coverage:.1%} of those answered"
    reason = f"The {name} is {_span(metric)} on {n} labelled predictions{reached}"
    if labelled.n_early:
        reason += f"; {labelled.n_early} labels claim to be older than their prediction"
    if bar.limit is None:
        told = f"{reason}; no baseline was given."
        return finding("performance", told, crossed=None, value=metric.value, n=n)
    allowed = f"{bar.limit:.3f} (baseline {bar.baseline:.3f}, allowed {bar.max_drop:.3f})"
    side = "below" if bar.greater_is_better else "above"
    if n < min_rows:
        told = f"{reason}; at least {min_rows} are needed to compare it with {allowed}."
        crossed = None
    elif bar.is_missed(metric):
        told, crossed = f"{reason}, wholly {side} {allowed}.", True
    else:
        told, crossed = f"{reason}, not shown to be {side} {allowed}.", False
    return finding(
        "performance", told, crossed=crossed, value=metric.value, threshold=bar.limit, n=n
    )


def _span(metric: Metric) -> str:
    span = "unknown" if metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}"
    return f"{metric.value:.3f} (95 % interval {span})"


def _require_labels(log: PredictionLog, label: str, name: str, known: str, task: Task) -> None:
    number = f"TRY_CAST({label} AS DOUBLE)"
    fits = f"coalesce(isfinite({number}), FALSE)"
    if task == "classification":
        fits += f" AND {number} IN (0, 1)"
    wrong = log.all(
        f"SELECT DISTINCT CAST({label} AS VARCHAR) FROM answered "  # noqa: S608 - names are quoted
        f"WHERE {known} AND NOT ({fits}) ORDER BY 1 LIMIT {_SHOWN}"
    )
    if wrong:
        expected = "0 and 1" if task == "classification" else "that are finite numbers"
        raise DataError(
            f"Expected labels {expected} in column {name!r} of {log.uri}, got "
            f"{[value for (value,) in wrong]}."
        )


def _sorted(batches: Any, numbers: list[str], texts: list[str]) -> pd.DataFrame:
    """Return numbers, and texts as categories, in one order whatever that of the rows."""
    names = [*numbers, *texts]
    tables = [
        pa.table([_encoded(column) for column in batch.columns], names=names) for batch in batches
    ]
    if not tables:
        return pd.DataFrame({name: np.empty(0) for name in names})
    frame: pd.DataFrame = pa.concat_tables(tables).unify_dictionaries().to_pandas()
    order = np.lexsort([frame[name] for name in reversed(numbers)])
    return frame.take(order).reset_index(drop=True)


def _encoded(column: pa.Array) -> pa.Array:
    return column.dictionary_encode() if pa.types.is_string(column.type) else column


def _delay(log: PredictionLog, known: str) -> tuple[float | None, float | None, int]:
    """Return median and 95th percentile in seconds, and how many labels came before."""
    if LABELLED_AT not in log.types or not pa.types.is_timestamp(log.types[LABELLED_AT]):
        return None, None, 0
    delay = f"(epoch_us({LABELLED_AT}) - epoch_us(ts)) / 1e6"
    later = f"FILTER ({known} AND {LABELLED_AT} >= ts)"
    quantiles, n_early = log.one(
        [
            f"quantile_cont({delay}, [0.5, 0.95]) {later}",
            f"count(*) FILTER ({known} AND {LABELLED_AT} < ts)",
        ]
    )
    return *(quantiles or (None, None)), n_early
