"""The evaluation of a model, from rows to report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.records import EvaluationReport, EvaluationSpec, Importance, Metric
from airflow_mlops_provider.steps.evaluate.answers import predict_answers, signature_names
from airflow_mlops_provider.steps.evaluate.cost import load_measured, measure_cost
from airflow_mlops_provider.steps.evaluate.fairness import fairness_of
from airflow_mlops_provider.steps.evaluate.importance import importance_of
from airflow_mlops_provider.steps.evaluate.page import evaluation_page, pictures
from airflow_mlops_provider.steps.evaluate.predictions import store_predictions
from airflow_mlops_provider.steps.evaluate.slices import slice_metrics
from airflow_mlops_provider.steps.evaluate.threshold import choose_threshold
from airflow_mlops_provider.steps.importing import import_object
from airflow_mlops_provider.steps.metrics import confusion as cf
from airflow_mlops_provider.steps.metrics.figures import (
    Figure,
    Sample,
    figure_of,
    figures_of,
    ratio_figure,
)
from airflow_mlops_provider.steps.metrics.resample import custom_metric
from airflow_mlops_provider.steps.snapshot import read_dataset

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlops_provider.records import DatasetRef
    from airflow_mlops_provider.steps.track import TaskRun

PAGE = "evaluation.html"
_BINS = 10


@dataclass(frozen=True)
class Judged:
    """Labelled rows, and what the model said of them."""

    frame: pd.DataFrame
    sample: Sample


def evaluate_model(
    model_uri: str, spec: EvaluationSpec, *, workspace: str, run: TaskRun
) -> EvaluationReport:
    """Score the dataset of ``spec`` with a model and measure how well it did.

    Args:
        model_uri: Any MLflow model with a pyfunc flavour.
        spec: On what it is judged; rows without a target are left out.
        workspace: Where the predictions are kept, under ``evaluations/``.
        run: The open MLflow run; figures, pictures and the page are logged to it.

    Raises:
        ModelError: the model cannot be loaded, or does not answer with a number for each row.
        DataError: the dataset lacks a column, or rows with a target.
        ParameterError: a metric, slice or threshold is not one.
    """
    _require_target(spec.dataset, spec.target)
    custom = _functions(spec)
    model, load_seconds = load_measured(model_uri)
    judged = _ask(model, spec, spec.dataset)
    figures = _figures(judged.sample, spec)
    first = next(iter(figures))
    report = EvaluationReport(
        model_uri=model_uri,
        dataset_uri=spec.dataset.uri,
        task=spec.task,
        metrics=_measured(judged.sample, figures, spec) | _custom(judged.sample, custom, spec),
        slices=slice_metrics(
            judged.frame,
            judged.sample,
            spec.slices,
            {
                name: figure_of(name, spec.task, judged.sample.n_classes)
                for name in spec.slice_metrics or [first]
            },
            min_rows=spec.min_slice_rows,
            confidence=spec.confidence,
        ),
        predictions_uri=store_predictions(judged.sample, workspace),
        importance=_importance(model, judged, figures[first], spec),
        golden=_golden(model, spec, judged.sample.threshold),
        cost=measure_cost(model, model_uri, judged.frame.head(1), load_seconds),
        custom_metrics=spec.custom_metrics,
        confidence=spec.confidence,
        greater_is_better={name: figure.greater_is_better for name, figure in figures.items()}
        | dict.fromkeys(custom, True),
        features=signature_names(model),
        **_decisions(judged, spec),
    )
    run.log_record(spec)
    _log(report, judged.sample, run)
    return report


def measure_model(model: Any, spec: EvaluationSpec) -> dict[str, Metric]:
    """Return the metrics of a loaded model, as :func:`evaluate_model` reports them."""
    sample = _ask(model, spec, spec.dataset).sample
    return _measured(sample, _figures(sample, spec), spec) | _custom(sample, _functions(spec), spec)


def _functions(spec: EvaluationSpec) -> dict[str, Callable[..., float]]:
    return {
        name: import_object(path, "custom_metrics", "evaluate")
        for name, path in spec.custom_metrics.items()
    }


def _ask(
    model: Any, spec: EvaluationSpec, dataset: DatasetRef, threshold: float | None = None
) -> Judged:
    frame = _labelled(dataset, spec.target)
    truth = frame[spec.target].to_numpy(dtype=float)
    sample = Sample.of(truth, predict_answers(model, frame))
    if spec.task == "regression" or sample.score.ndim == 2:
        return Judged(frame, sample)
    if threshold is None:
        positive, score = sample.positive, sample.score
        threshold = choose_threshold(spec.threshold, positive, score, spec.costs)
    return Judged(frame, replace(sample, threshold=threshold))


def _require_target(dataset: DatasetRef, target: str) -> None:
    if target not in dataset.columns:
        raise DataError(
            f"Expected the target column {target!r} in dataset {dataset.name!r}, got "
            f"{sorted(dataset.columns)}. Correct `target`, or the step before."
        )


def _labelled(dataset: DatasetRef, target: str) -> pd.DataFrame:
    _require_target(dataset, target)
    frame = read_dataset(dataset)
    known = frame[target].notna()
    if not known.all():
        frame = frame[known].reset_index(drop=True)
    if frame.empty:
        raise DataError(
            f"No row of dataset {dataset.name!r} has a value in {target!r} to judge by. Wait "
            "for labels, or choose another window."
        )
    return frame


def _figures(sample: Sample, spec: EvaluationSpec) -> dict[str, Figure]:
    figures = dict(figures_of(spec.task, sample.n_classes))
    if spec.costs is not None and spec.task == "classification":
        ratio = cf.cost(spec.costs, sample.n_classes)
        figures["cost"] = ratio_figure(ratio, greater_is_better=False)
    return figures


def _measured(
    sample: Sample, figures: Mapping[str, Figure], spec: EvaluationSpec
) -> dict[str, Metric]:
    found = {name: figure.estimate(sample) for name, figure in figures.items()}
    return {
        name: estimate.metric(spec.confidence)
        for name, estimate in found.items()
        if estimate is not None
    }


def _custom(
    sample: Sample, functions: Mapping[str, Callable[..., float]], spec: EvaluationSpec
) -> dict[str, Metric]:
    return {
        name: custom_metric(function, sample, confidence=spec.confidence, seed=spec.seed)
        for name, function in functions.items()
    }


def _decisions(judged: Judged, spec: EvaluationSpec) -> dict[str, Any]:
    """Return what is known of the decisions of a classifier, as fields of the report."""
    sample = judged.sample
    if spec.task != "classification":
        return {}
    table = cf.confusion(sample.label, sample.decided, sample.n_classes)
    several = sample.score.ndim == 2
    return {
        "confusion": table.tolist(),
        "threshold": None if several else sample.threshold,
        "calibration_error": None if several else calibration_error(sample),
        "fairness": []
        if several
        else fairness_of(judged.frame, sample, spec.fairness, spec.min_slice_rows),
    }


def calibration_error(sample: Sample) -> float:
    """Return the mean gap between probability and rate over ten bins of equally many rows.

    Rows of one score share a bin, so that the order of rows does not matter.
    """
    rows = np.bincount(sample.ranks.group)
    middle = (np.cumsum(rows) - rows / 2) / len(sample)
    bins = (middle * _BINS).astype(np.intp)[sample.ranks.group]
    gaps = np.bincount(bins, weights=sample.score - sample.positive)
    return float(np.abs(gaps).sum() / len(sample))


def _importance(
    model: Any, judged: Judged, figure: Figure, spec: EvaluationSpec
) -> list[Importance]:
    if not spec.importance_repeats:
        return []
    return importance_of(
        model,
        judged.frame,
        judged.sample.truth,
        figure,
        repeats=spec.importance_repeats,
        seed=spec.seed,
    )


def _golden(model: Any, spec: EvaluationSpec, threshold: float) -> dict[str, Metric]:
    if spec.golden is None:
        return {}
    sample = _ask(model, spec, spec.golden, threshold).sample
    figures = _figures(sample, spec)
    if spec.task == "classification" and len(set(sample.truth)) < 2:
        figures = {name: each for name, each in figures.items() if each.ratio or each.rows}
    return _measured(sample, figures, spec)


def _log(report: EvaluationReport, sample: Sample, run: TaskRun) -> None:
    run.log_metrics({name: metric.value for name, metric in report.metrics.items()})
    drawn = pictures(report, sample)
    for name, png in drawn.items():
        run.log_picture(png, f"plots/{name}.png")
    run.log_page(evaluation_page(report, drawn), PAGE)
