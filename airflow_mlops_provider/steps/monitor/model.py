"""The report on a window of live traffic, from the log to the findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from airflow_mlops_provider.steps.drift.reference import profile_rows
from airflow_mlops_provider.steps.drift.rows import kind_of, rows_of
from airflow_mlops_provider.steps.monitor.asked import checked, scope_of
from airflow_mlops_provider.steps.monitor.attribution import ROWS
from airflow_mlops_provider.steps.monitor.fairness import judge_fairness, live_fairness
from airflow_mlops_provider.steps.monitor.kpi import judge_kpis
from airflow_mlops_provider.steps.monitor.log import open_log, quoted
from airflow_mlops_provider.steps.monitor.performance import LABEL, labelled_of
from airflow_mlops_provider.steps.monitor.scores import SCORE
from airflow_mlops_provider.steps.monitor.seen import Seen
from airflow_mlops_provider.steps.monitor.segments import GROUP_ROWS
from airflow_mlops_provider.steps.prediction_log import INPUT

if TYPE_CHECKING:
    from airflow_mlops_provider.records import (
        DatasetRef,
        Metric,
        MonitoringReport,
        PredictionBatchRef,
    )
    from airflow_mlops_provider.steps.drift.compare import Comparison
    from airflow_mlops_provider.steps.metrics.figures import Task
    from airflow_mlops_provider.steps.monitor.asked import Asked, Reference
    from airflow_mlops_provider.steps.monitor.kpi import Kpi
    from airflow_mlops_provider.steps.monitor.log import PredictionLog


@dataclass(frozen=True)
class Observation:
    """A report and what its drift was seen by."""

    report: MonitoringReport
    comparison: Comparison | None


def monitor_model(
    predictions: PredictionBatchRef,
    labelled: DatasetRef | None = None,
    *,
    endpoint: str,
    **options: Any,
) -> MonitoringReport:
    """Return the report of :func:`observe`, which tells the options."""
    return observe(predictions, labelled, endpoint=endpoint, **options).report


def observe(
    predictions: PredictionBatchRef,
    labelled: DatasetRef | None = None,
    *,
    endpoint: str,
    profile_uri: str | None = None,
    max_drifted_share: float = 0.3,
    baseline: Mapping[str, Any] | Metric | float | None = None,
    score_column: str = SCORE,
    label_column: str = LABEL,
    max_drop: float = 0.02,
    min_rows: int = 500,
    model_uri: str | None = None,
    task: Task = "classification",
    window_start: str | None = None,
    window_end: str | None = None,
    now: datetime | None = None,
    reference: Reference = "training",
    previous: MonitoringReport | None = None,
    reference_predictions: str | None = None,
    thresholds: Mapping[str, float | None] | None = None,
    segments: Sequence[str] = (),
    fairness: Sequence[str] = (),
    decision_threshold: float = 0.5,
    attribution: bool = False,
    kpis: Mapping[str, Kpi] | None = None,
    workspace: str | None = None,
) -> Observation:
    """Look at a window of live traffic, and say which signals cross their thresholds.

    The rows are streamed; what is held of them is 8 bytes a prediction (its score), 16 a labelled
    one, and 4 for each column of ``segments`` and ``fairness``. Neither the order of the rows nor
    the batches of the file change the report.

    Args:
        predictions: A compacted prediction log.
        labelled: The predictions whose labels came, with ``label`` and perhaps ``label_ts``.
        endpoint: Name of the endpoint, for the report.
        profile_uri: Drift profile of the training data; without it neither drift nor the values
            of inputs are looked at.
        max_drifted_share: From this share of drifted features on, the inputs drifted.
        baseline: The AUC, or of a regression the RMSE, that the model was promoted with: a number
            or a ``Metric``.
        score_column: Column of ``labelled`` with the score of class 1, or the predicted number.
        label_column: Column of ``labelled`` with the truth: 0 or 1, or a number.
        max_drop: How far the AUC may fall below ``baseline``, at least 0; the RMSE may rise by
            this share of it.
        min_rows: Predictions, or labelled ones, below which a finding is ``unknown``.
        model_uri: Look only at this model's predictions, which is what ``baseline`` and
            ``profile_uri`` are about; None looks at all, with each model as a segment.
        task: ``classification`` (of two classes) or ``regression``.
        window_start: First moment to look at, ISO 8601; by default that of ``predictions``.
        window_end: First moment not to look at.
        now: The time of the report; predictions that claim to be later are counted and left out.
        reference: ``training``, or ``previous`` to compare with the window before instead.
        previous: The report on that window.
        reference_predictions: Parquet with ``score`` and ``target`` of predictions on held-out
            data (``EvaluationReport.predictions_uri``): what prediction drift is compared with,
            and what the estimate is calibrated on.
        thresholds: Name to what is used instead of its default in ``settings.THRESHOLDS``; None
            looks at nothing.
        segments: Inputs or columns of the log whose values are reported one by one.
        fairness: Inputs or columns whose groups are to be treated alike.
        decision_threshold: The score from which on class 1 is decided, for fairness.
        attribution: Whether to ask the model how it weighs its inputs, which loads it.
        kpis: What ``measure_kpis`` gave.
        workspace: fsspec URI of the workspace, needed for ``reference="previous"``.

    Raises:
        DataError: a file is gone, a column is missing, or a label is not what the task needs.
        MlflowUnavailableError: MLflow does not give the model.
        ModelError: the model cannot be asked for ``attribution``.
        ParameterError: a parameter is out of range.
    """
    asked = checked(
        scope=scope_of(model_uri, window_start, window_end, now),
        task=task,
        reference=reference,
        baseline=baseline,
        max_drop=max_drop,
        max_drifted_share=max_drifted_share,
        thresholds=thresholds,
        min_rows=min_rows,
        profile_uri=profile_uri,
        previous=previous,
        reference_predictions=reference_predictions,
        segments=segments,
        fairness=fairness,
        attribution=attribution,
        workspace=workspace,
    )
    groups = [*dict.fromkeys([*asked.segments, *asked.fairness])]
    truth = labelled_of(
        labelled,
        asked.scope,
        task=task,
        score_column=score_column,
        label_column=label_column,
        groups=groups,
    )
    with open_log(predictions.uri, asked.scope) as log:
        seen = Seen(log, asked, truth)
        report = seen.report(predictions, endpoint)
        found = [*seen.findings()]
        if asked.fairness:
            fair = live_fairness(
                truth, seen.scored, seen.groups, threshold=decision_threshold, min_rows=GROUP_ROWS
            )
            found.append(judge_fairness(fair, asked.limits, len(truth) or len(seen.scored)))
            report = replace(report, fairness=fair)
        if asked.reference == "previous" and len(seen.scored):
            assert workspace is not None, "checked asks for it"
            report = _with_profiles(report, log, seen, asked, predictions, workspace)
    if kpis:
        found.append(judge_kpis(kpis, seen.traffic.n))
        values = {name: kpi.value for name, kpi in kpis.items() if kpi.value is not None}
        report = replace(report, kpis=values)
    report = replace(
        report,
        findings=found,
        reasons=[each.reason for each in found],
        signals=[each.signal for each in found if each.crossed],
    )
    return Observation(report, seen.inputs.comparison if seen.inputs else None)


def _with_profiles(
    report: MonitoringReport,
    log: PredictionLog,
    seen: Seen,
    asked: Asked,
    predictions: PredictionBatchRef,
    workspace: str,
) -> MonitoringReport:
    """Keep what the next window is compared with."""
    types = {name: log.types[f"{INPUT}{name}"] for name in log.inputs}
    types = {name: type_ for name, type_ in types.items() if kind_of(type_) is not None}
    source, inputs = predictions.file_hash, None
    if types:
        rows = log.rows({name: quoted(f"{INPUT}{name}") for name in types})
        sample = ROWS if asked.attribution else 0
        inputs = profile_rows(rows, types, workspace, source=source, sample_rows=sample)
    scores = rows_of(pd.DataFrame({SCORE: seen.scores}))
    kept = profile_rows(scores, {SCORE: pa.float64()}, workspace, source=source)
    return replace(report, window_profile_uri=inputs, window_score_profile_uri=kept)
