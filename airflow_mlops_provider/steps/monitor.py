"""What live traffic says of a model: volume, errors, latency, drift and, once labels came, quality.

Records of shadow deployments are left out throughout: nobody was given their answers. A request
that was tried twice counts as two predictions for errors and latency, and as one for drift and
quality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import fsspec
import numpy as np
import pandas as pd

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import (
    DatasetRef,
    DriftReport,
    Metric,
    MonitoringReport,
    PredictionBatchRef,
)
from airflow_mlops_provider.steps.drift.compare import detect_drift
from airflow_mlops_provider.steps.metrics.figures import auc_with_interval
from airflow_mlops_provider.steps.prediction_log import INPUT, answered, without_shadows
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset

LABEL = "label"
_SERVER_ERROR = 500
_LOG_COLUMNS = ["request_id", "row", "attempt", "model_uri", "status", "latency_ms", "shadow"]
_SHOWN = 5


def join_labels(
    predictions: PredictionBatchRef,
    labels: DatasetRef,
    *,
    key: str = "entity_id",
    label_key: str,
    label_column: str,
    workspace: str,
    updated_column: str | None = None,
) -> DatasetRef | None:
    """Give each prediction the label that came for it; those still without one are left out.

    Args:
        predictions: What was predicted.
        labels: What turned out to be true, one row for each ``label_key``; rows without a label
            are taken as not having come yet.
        key: Column of the predictions to join on; several predictions may share a key.
        label_key: Column of the labels to join on; compared as text.
        label_column: Column of the labels with the truth; it becomes ``label``.
        workspace: fsspec URI of the workspace.
        updated_column: Column of the labels that orders corrections: the last one holds.

    Returns:
        All columns of the labelled predictions and ``label``, as the dataset
        ``{labels.name}-predictions``; None while no prediction has a label.

    Raises:
        DataError: a column is missing, or a key has two labels and no ``updated_column`` says
            which one holds.
    """
    predicted = _read_predictions(predictions, [key])
    wanted = [label_key, label_column, *([updated_column] if updated_column else [])]
    truth = _unique_labels(_read_labels(labels, wanted), labels.uri, *wanted)
    answer = pd.Series(truth[label_column].to_numpy(), index=_as_text(truth[label_key]))
    labelled = predicted.assign(**{LABEL: _as_text(predicted[key]).map(answer)})
    labelled = labelled[labelled[LABEL].notna()]
    if labelled.empty:
        return None
    return write_dataset(
        labelled.infer_objects(),
        name=f"{labels.name}-predictions",
        workspace=workspace,
        source=f"{predictions.uri} with {labels.uri}",
        window_start=predictions.window_start,
        window_end=predictions.window_end,
    )


def monitor_model(
    predictions: PredictionBatchRef,
    labelled: DatasetRef | None = None,
    *,
    endpoint: str,
    profile_uri: str | None = None,
    max_drifted_share: float = 0.3,
    baseline: Mapping[str, Any] | Metric | float | None = None,
    score_column: str = "score",
    label_column: str = LABEL,
    max_drop: float = 0.02,
    min_rows: int = 500,
    model_uri: str | None = None,
) -> MonitoringReport:
    """Report on live traffic, and say whether the model should be trained again.

    The signal ``performance`` is raised only if even the upper end of the AUC's 95 % interval
    (DeLong) lies below ``baseline - max_drop``, on at least ``min_rows`` labelled predictions;
    the signal ``drift`` if the inputs drifted from the training profile.

    Args:
        predictions: A compacted prediction log.
        labelled: The predictions whose labels came, from :func:`join_labels`.
        endpoint: Name of the endpoint, for the report.
        profile_uri: Drift profile of the training data; without it drift is not looked at.
        max_drifted_share: From this share of drifted features on, the inputs drifted.
        baseline: The AUC the model was promoted with: a number or a ``Metric``.
        score_column: Column of ``labelled`` with the score of class 1.
        label_column: Column of ``labelled`` with the truth, 0 or 1.
        max_drop: How far the AUC may fall below ``baseline``, at least 0.
        min_rows: Labelled predictions below which no performance signal is raised, at least 1.
        model_uri: Look only at this model's predictions, which is what ``baseline`` and
            ``profile_uri`` are about; None looks at all.

    Raises:
        DataError: a column is missing, or a label is neither 0 nor 1.
        ParameterError: ``max_drop``, ``min_rows`` or ``baseline`` is out of range.
    """
    expected = _checked(baseline, max_drop, min_rows)
    live = _live(_read_predictions(predictions, _LOG_COLUMNS), model_uri)
    traffic = _traffic(live)
    drift, drift_finding = _drift(live, predictions.uri, profile_uri, max_drifted_share)
    scored = _scored(labelled, score_column, label_column, model_uri)
    performance, finding = _performance(scored, expected, max_drop, min_rows)
    findings = [traffic.finding, drift_finding, finding]
    return MonitoringReport(
        endpoint=endpoint,
        n_predictions=len(live),
        n_labelled=len(scored),
        error_rate=traffic.error_rate,
        latency_p95_ms=traffic.latency_p95_ms,
        drift=drift,
        performance=performance,
        signals=[found.signal for found in findings if found.signal],
        reasons=[found.reason for found in findings],
    )


@dataclass(frozen=True)
class _Finding:
    reason: str
    signal: Literal["drift", "performance"] | None = None


@dataclass(frozen=True)
class _Traffic:
    error_rate: float
    latency_p95_ms: float | None
    finding: _Finding


def _checked(baseline: Any, max_drop: float, min_rows: int) -> float | None:
    if not 0 <= max_drop < 1:
        raise ParameterError.of("max_drop", "monitor_model", "in [0, 1)", max_drop)
    if min_rows < 1:
        raise ParameterError.of("min_rows", "monitor_model", "at least 1", min_rows)
    if baseline is None:
        return None
    try:
        number = isinstance(baseline, int | float | str)
        value = float(baseline) if number else Metric.from_xcom(baseline).value
    except ValueError as error:
        raise ParameterError.of("baseline", "monitor_model", "an AUC", baseline) from error
    if not 0 <= value <= 1:
        raise ParameterError.of("baseline", "monitor_model", "an AUC in [0, 1]", baseline)
    return value


def _live(frame: pd.DataFrame, model_uri: str | None) -> pd.DataFrame:
    live = without_shadows(frame)
    return live if model_uri is None else live[live["model_uri"] == model_uri]


def _traffic(live: pd.DataFrame) -> _Traffic:
    if live.empty:
        return _Traffic(0.0, None, _Finding("No live predictions in this window."))
    errors = int((live["status"] >= _SERVER_ERROR).sum())
    rate = errors / len(live)
    latencies = live["latency_ms"].dropna()
    p95 = float(np.percentile(latencies, 95)) if len(latencies) else None
    took = f"95 % took at most {p95:.1f} ms" if p95 is not None else "their latency is unknown"
    reason = f"{errors} of {len(live)} live predictions failed ({rate:.2%}); {took}."
    return _Traffic(rate, p95, _Finding(reason))


def _drift(
    live: pd.DataFrame, uri: str, profile_uri: str | None, max_share: float
) -> tuple[DriftReport | None, _Finding]:
    if profile_uri is None:
        return None, _Finding("Drift was not looked at: no profile of the training data was given.")
    rows = answered(live)
    inputs = rows[[name for name in rows.columns if name.startswith(INPUT)]]
    if inputs.empty:
        return None, _Finding("Drift was not looked at: no live prediction was answered.")
    report = detect_drift(
        inputs.rename(columns=lambda name: name.removeprefix(INPUT)),
        profile_uri,
        max_share=max_share,
        dataset_uri=uri,
    )
    drifted = [item.feature for item in report.features if item.status == "drifted"]
    names = ", ".join(drifted[:_SHOWN]) + (", ..." if len(drifted) > _SHOWN else "")
    reason = (
        f"The inputs are {report.verdict.replace('_', ' ')}: {len(drifted)} of "
        f"{report.n_features} features drifted{f' ({names})' if drifted else ''} on "
        f"{report.n_current} predictions against {report.n_reference} training rows."
    )
    return report, _Finding(reason, "drift" if report.verdict == "drifted" else None)


def _scored(
    labelled: DatasetRef | None, score_column: str, label_column: str, model_uri: str | None
) -> pd.DataFrame:
    """Return ``score`` and ``label`` of each live, answered, labelled prediction."""
    if labelled is None:
        return pd.DataFrame({"score": [], "label": []}, dtype=float)
    columns = dict.fromkeys([*_LOG_COLUMNS, score_column, label_column])
    _require(list(labelled.columns), list(columns), labelled.uri)
    rows = answered(_live(read_dataset(labelled, columns=list(columns)), model_uri))
    rows = rows[rows[score_column].notna() & rows[label_column].notna()]
    wrong = set(rows[label_column].unique()) - {0, 1}
    if wrong:
        raise DataError(
            f"Expected labels 0 and 1 in column {label_column!r} of {labelled.uri}, got "
            f"{sorted(map(str, wrong))[:_SHOWN]}."
        )
    return pd.DataFrame(
        {"score": rows[score_column].astype(float), "label": rows[label_column].astype(float)}
    )


def _performance(
    scored: pd.DataFrame, baseline: float | None, max_drop: float, min_rows: int
) -> tuple[dict[str, Metric], _Finding]:
    n = len(scored)
    if scored["label"].nunique() < 2:
        return {}, _Finding(f"Quality is unknown: {n} labelled predictions without both classes.")
    auc = auc_with_interval(scored["label"].to_numpy(), scored["score"].to_numpy())
    span = "unknown" if auc.high is None else f"{auc.low:.3f} to {auc.high:.3f}"
    figure = f"The AUC is {auc.value:.3f} (95 % interval {span}) on {n} labelled predictions"
    if baseline is None:
        return {"auc": auc}, _Finding(f"{figure}; no baseline was given.")
    floor = baseline - max_drop
    allowed = f"{floor:.3f} (baseline {baseline:.3f} less {max_drop:.3f})"
    if n < min_rows:
        few = f"{figure}; at least {min_rows} are needed to compare it with {allowed}."
        return {"auc": auc}, _Finding(few)
    if auc.high is not None and auc.high < floor:
        return {"auc": auc}, _Finding(f"{figure}, wholly below {allowed}.", "performance")
    return {"auc": auc}, _Finding(f"{figure}, not shown to be below {allowed}.")


def _read_predictions(predictions: PredictionBatchRef, columns: Sequence[str]) -> pd.DataFrame:
    with readable(predictions.uri), fsspec.open(predictions.uri, "rb") as file:
        frame = pd.read_parquet(file)
    _require(list(frame.columns), columns, predictions.uri)
    return frame


def _read_labels(labels: DatasetRef, columns: list[str]) -> pd.DataFrame:
    _require(list(labels.columns), columns, labels.uri)
    frame = read_dataset(labels, columns=list(dict.fromkeys(columns)))
    return frame[frame[columns[0]].notna() & frame[columns[1]].notna()]


def _unique_labels(
    labels: pd.DataFrame, uri: str, key: str, label: str, updated: str | None = None
) -> pd.DataFrame:
    if updated is not None:
        ordered = labels.sort_values(updated, kind="stable", na_position="first")
        return ordered.drop_duplicates(key, keep="last")
    repeated = labels.loc[labels.duplicated(key), key].unique()
    if len(repeated):
        raise DataError(
            f"Expected one {label!r} for each {key!r} in {uri}, got several for {len(repeated)} of "
            f"them ({', '.join(map(str, repeated[:_SHOWN]))}). Remove the repeated rows, or name "
            "in updated_column the time by which the last correction holds."
        )
    return labels


def _as_text(keys: pd.Series[Any]) -> pd.Series[Any]:
    """Return keys as text, so that the log's ``"7"`` meets the table's 7 (and pandas' 7.0)."""
    if pd.api.types.is_float_dtype(keys) and (keys.dropna() % 1 == 0).all():
        keys = keys.astype("Int64")
    return keys.astype("string")


def _require(present: Sequence[str], wanted: Sequence[str], uri: str) -> None:
    missing = [name for name in wanted if name not in present]
    if missing:
        raise DataError(
            f"Expected columns {missing} in {uri}, got {sorted(present)}. Correct the names, or "
            "the step that wrote it."
        )
