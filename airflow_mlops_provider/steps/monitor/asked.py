"""What a report is asked to look at, once its parameters were checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import Metric
from airflow_mlops_provider.steps.monitor.log import Scope
from airflow_mlops_provider.steps.monitor.performance import FIGURES, Bar
from airflow_mlops_provider.steps.monitor.settings import checked_thresholds
from airflow_mlops_provider.steps.windows import checked_time, utc

if TYPE_CHECKING:
    from airflow_mlops_provider.records import MonitoringReport
    from airflow_mlops_provider.steps.metrics.figures import Task

Reference = Literal["training", "previous"]


@dataclass(frozen=True)
class Asked:
    """What to look at, after its values were checked."""

    scope: Scope
    task: Task
    reference: Reference
    baseline: float | None
    limits: Mapping[str, float | None]
    min_rows: int
    profile_uri: str | None
    score_profile_uri: str | None
    reference_predictions: str | None
    segments: tuple[str, ...]
    fairness: tuple[str, ...]
    attribution: bool

    @property
    def bar(self) -> Bar:
        """What the first figure has to reach."""
        return Bar(FIGURES[self.task][0], self.baseline, self.limits["performance_drop"])

    @property
    def estimated_bar(self) -> Bar:
        """What the estimate of the first figure has to reach."""
        return Bar(FIGURES[self.task][0], self.baseline, self.limits["estimated_drop"])


def scope_of(
    model_uri: str | None, start: str | None, end: str | None, now: datetime | None
) -> Scope:
    """Return which predictions are asked for.

    Raises:
        ParameterError: an end of the window is no time, or it ends before it begins.
    """
    first = checked_time(start, "window_start", "monitor_model")
    last = checked_time(end, "window_end", "monitor_model")
    if first and last and first >= last:
        constraint = f"after window_start ({start})"
        raise ParameterError.of("window_end", "monitor_model", constraint, end)
    return Scope(model_uri, first, last, utc(now) if now else None)


def checked(
    *,
    baseline: Any,
    max_drop: float,
    max_drifted_share: float,
    thresholds: Mapping[str, float | None] | None,
    previous: MonitoringReport | None,
    workspace: str | None,
    **asked: Any,
) -> Asked:
    """Return what is asked for; see ``observe`` for the parameters.

    Raises:
        ParameterError: one of them is out of range.
    """
    task, reference, min_rows = asked["task"], asked["reference"], asked["min_rows"]
    if not 0 <= max_drop < 1:
        raise ParameterError.of("max_drop", "monitor_model", "in [0, 1)", max_drop)
    if min_rows < 1:
        raise ParameterError.of("min_rows", "monitor_model", "at least 1", min_rows)
    if task not in FIGURES:
        raise ParameterError.of("task", "monitor_model", f"one of {[*FIGURES]}", task)
    if reference not in ("training", "previous"):
        constraint = "'training' or 'previous'"
        raise ParameterError.of("reference", "monitor_model", constraint, reference)
    value = _baseline(baseline, task)
    score_profile_uri = None
    if reference == "previous":
        if workspace is None:
            constraint = "given if reference is 'previous'"
            raise ParameterError.of("workspace", "monitor_model", constraint, workspace)
        asked["profile_uri"] = previous.window_profile_uri if previous else None
        score_profile_uri = previous.window_score_profile_uri if previous else None
        before = previous.performance.get(FIGURES[task][0]) if previous else None
        if value is None and before is not None and before.n >= min_rows:
            value = before.value
    limits = checked_thresholds(
        thresholds, drifted_share=max_drifted_share, performance_drop=max_drop
    )
    for name in ("segments", "fairness"):
        asked[name] = tuple(asked[name] or ())
    return Asked(baseline=value, limits=limits, score_profile_uri=score_profile_uri, **asked)


def _baseline(baseline: Any, task: Task) -> float | None:
    if baseline is None:
        return None
    what = "an AUC" if task == "classification" else "an RMSE"
    try:
        number = isinstance(baseline, int | float | str)
        value = float(baseline) if number else Metric.from_xcom(baseline).value
    except ValueError as error:
        raise ParameterError.of("baseline", "monitor_model", what, baseline) from error
    most = 1 if task == "classification" else math.inf
    if not 0 <= value <= most or not math.isfinite(value):
        span = "in [0, 1]" if task == "classification" else "of at least 0"
        raise ParameterError.of("baseline", "monitor_model", f"{what} {span}", baseline)
    return value
