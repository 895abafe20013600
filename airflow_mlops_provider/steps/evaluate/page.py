"""What people read of an evaluation: figures with intervals, slices, and pictures."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from airflow_mlops_provider.steps.pages import render_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from airflow_mlops_provider.records import EvaluationReport
    from airflow_mlops_provider.steps.metrics.figures import Sample

MAX_POINTS = 50_000
_SHOWN, _DOTS = 20, 2_000
_INK, _LINE = "#d64545", "#9fb3c8"


def pictures(report: EvaluationReport, sample: Sample) -> dict[str, bytes]:
    """Draw what suits the task; at most 50,000 rows, evenly taken, are looked at.

    Returns:
        Name to PNG: ``roc``, ``precision_recall`` and ``calibration`` of a classification in two
        classes, ``residuals`` of a regression, ``importance`` where it was asked for.
    """
    rows = np.linspace(0, len(sample) - 1, min(len(sample), MAX_POINTS)).astype(np.intp)
    shown = sample.take(rows)
    drawings: dict[str, Callable[[Axes], object]] = {}
    if report.task == "regression":
        drawings["residuals"] = lambda axes: _residuals(axes, shown)
    elif "auc" in report.metrics:
        drawings |= {
            "roc": lambda axes: _roc(axes, shown),
            "precision_recall": lambda axes: _precision_recall(axes, shown),
            "calibration": lambda axes: _calibration(axes, shown),
        }
    if report.importance:
        drawings["importance"] = lambda axes: _importance(axes, report)
    return {name: _png(draw) for name, draw in drawings.items()}


def evaluation_page(report: EvaluationReport, pictures: dict[str, bytes]) -> str:
    """Return the report as one HTML page that fetches nothing."""
    return render_page("evaluation.html", report=report, pictures=pictures)


def _roc(axes: Axes, sample: Sample) -> None:
    false_alarms, hits, _ = roc_curve(sample.positive, sample.score)
    axes.plot([0, 1], [0, 1], color=_LINE, linestyle="--")
    axes.plot(false_alarms, hits, color=_INK)
    axes.set(title="ROC curve", xlabel="False positive rate", ylabel="Recall")


def _precision_recall(axes: Axes, sample: Sample) -> None:
    precision, recall, _ = precision_recall_curve(sample.positive, sample.score)
    axes.axhline(sample.positive.mean(), color=_LINE, linestyle="--")
    axes.step(recall, precision, where="post", color=_INK)
    axes.set(title="Precision and recall", xlabel="Recall", ylabel="Precision")


def _calibration(axes: Axes, sample: Sample) -> None:
    chance = np.clip(sample.score, 0, 1)
    rate, predicted = calibration_curve(sample.positive, chance, n_bins=10, strategy="quantile")
    axes.plot([0, 1], [0, 1], color=_LINE, linestyle="--")
    axes.plot(predicted, rate, color=_INK, marker="o")
    axes.set(title="Calibration", xlabel="Mean probability", ylabel="Share of class 1")


def _residuals(axes: Axes, sample: Sample) -> None:
    rows = np.linspace(0, len(sample) - 1, min(len(sample), _DOTS)).astype(np.intp)
    shown = sample.take(rows)
    axes.axhline(0, color=_LINE, linestyle="--")
    axes.scatter(shown.score, shown.truth - shown.score, s=8, alpha=0.4, color=_INK)
    axes.set(title="Residuals", xlabel="Prediction", ylabel="Truth minus prediction")


def _importance(axes: Axes, report: EvaluationReport) -> None:
    top = report.importance[:_SHOWN][::-1]
    axes.barh(
        [each.feature for each in top],
        [each.mean for each in top],
        xerr=[each.std for each in top],
        color=_LINE,
        ecolor=_INK,
    )
    axes.set_title("Permutation importance")
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.set_layout_engine("constrained")  # feature names are of any length


def _png(draw: Callable[[Axes], object]) -> bytes:
    figure = Figure(figsize=(5, 4), dpi=110)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.15, right=0.97, bottom=0.13, top=0.92)
    draw(figure.subplots())
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
