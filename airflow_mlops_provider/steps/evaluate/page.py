"""What people read of an evaluation: figures with intervals, slices, and pictures."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import PrecisionRecallDisplay, PredictionErrorDisplay, RocCurveDisplay

from airflow_mlops_provider.steps.pages import render_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from airflow_mlops_provider.records import EvaluationReport
    from airflow_mlops_provider.steps.metrics.figures import Sample

MAX_POINTS = 200_000
_SHOWN = 20
_INK, _LINE = "#d64545", "#9fb3c8"


def pictures(report: EvaluationReport, sample: Sample) -> dict[str, bytes]:
    """Draw what suits the task; at most 200,000 rows, evenly taken, are looked at.

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
    RocCurveDisplay.from_predictions(
        sample.positive,
        sample.score,
        ax=axes,
        plot_chance_level=True,
        curve_kwargs={"color": _INK},
    )
    axes.set_title("ROC curve")


def _precision_recall(axes: Axes, sample: Sample) -> None:
    PrecisionRecallDisplay.from_predictions(
        sample.positive, sample.score, ax=axes, plot_chance_level=True, curve_kwargs={"color": _INK}
    )
    axes.set_title("Precision and recall")


def _calibration(axes: Axes, sample: Sample) -> None:
    CalibrationDisplay.from_predictions(
        sample.positive,
        np.clip(sample.score, 0, 1),
        n_bins=10,
        strategy="quantile",
        ax=axes,
        color=_INK,
    )
    axes.set_title("Calibration")


def _residuals(axes: Axes, sample: Sample) -> None:
    PredictionErrorDisplay.from_predictions(
        sample.truth,
        sample.score,
        kind="residual_vs_predicted",
        ax=axes,
        subsample=2_000,
        random_state=0,
        scatter_kwargs={"color": _INK, "alpha": 0.4, "s": 8},
    )
    axes.set_title("Residuals")


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


def _png(draw: Callable[[Axes], object]) -> bytes:
    figure = Figure(figsize=(5, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots())
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
