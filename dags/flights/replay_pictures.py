"""The pictures of a replay, for the documentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from flights.replay_live import MAX_DRIFTED_SHARE, MAX_DROP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from airflow_mlops_provider.records import Metric
    from flights.replay_data import Landed
    from flights.replay_results import Course, Replay

_BLUE, _ORANGE, _GREEN, _GREY = "#0072b2", "#d55e00", "#009e73", "#8a94a0"
_STYLES = ((_GREY, "s", 5), (_BLUE, "o", 10), (_ORANGE, "^", 7), (_GREEN, "v", 5))
"""Of each policy: colours of Okabe and Ito, a marker for those who see none, and its size, so that
what lies below another shows."""


_EST = "estimated without labels"


def save_pictures(replay: Replay, folder: Path) -> None:
    """Write ``replay-verdicts.png`` and ``replay-policies.png`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in {
        "replay-verdicts": _verdicts(replay.courses[0], replay.learned),
        "replay-policies": _policies(replay.courses),
    }.items():
        figure.savefig(folder / f"{name}.png", format="png", metadata={"Software": None})


def _verdicts(course: Course, learned: Sequence[Landed]) -> Figure:
    figure = _figure(7.2)
    late, drift, auc = figure.subplots(3, 1, sharex=True)
    rates = [each.late_rate for each in [*learned, *course.figures]]
    months = [each.month for each in [*learned, *course.months]]
    colours = [_GREY] * len(learned) + [_BLUE] * len(course.months)
    late.bar(range(len(months)), rates, color=colours)
    _name(late, months)
    late.set_title("Late flights (grey: what the champion learned from)", loc="left")
    late.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    places = range(len(learned), len(months))
    _drift(drift, course, places)
    _performance(auc, course, places)
    return figure


def _drift(axes: Axes, course: Course, places: Sequence[int]) -> None:
    reports = [each.live.report for each in course.months]
    shares = [report.drift.share_drifted if report.drift else 0.0 for report in reports]
    _dots(axes, places, shares, ["drift" in report.signals for report in reports])
    axes.axhline(MAX_DRIFTED_SHARE, color=_ORANGE, linestyle="--", linewidth=1)
    axes.set_title("Features that drifted (filled: signal raised; dashed: threshold)", loc="left")
    axes.set_ylim(0, max(0.5, *shares) * 1.1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _performance(axes: Axes, course: Course, places: Sequence[int]) -> None:
    reports = [each.live.report for each in course.months]
    found = [report.performance["auc"] for report in reports]
    values = [each.value for each in found]
    axes.errorbar(places, values, yerr=_spans(found), color=_BLUE, linestyle="none")
    _dots(axes, places, values, ["performance" in report.signals for report in reports])
    guesses = [report.estimated_performance.get("auc") for report in reports]
    estimated = [each.value if each else math.nan for each in guesses]
    axes.plot(places, estimated, color=_GREEN, marker="D", markersize=5, linestyle=":", label=_EST)
    axes.legend(frameon=False, loc="lower left")
    promised = course.months[0].champion.evaluation.metrics["auc"].value
    axes.axhline(promised - MAX_DROP, color=_ORANGE, linestyle="--", linewidth=1)
    axes.set_title("AUC with 95 % interval (filled: signal raised; dashed: threshold)", loc="left")


def _dots(
    axes: Axes, places: Sequence[int], values: Sequence[float], raised: Sequence[bool]
) -> None:
    fill = [_ORANGE if each else "white" for each in raised]
    axes.plot(places, values, color=_BLUE, linewidth=1)
    axes.scatter(places, values, c=fill, edgecolors=_BLUE, s=55, zorder=3)


def _policies(courses: Sequence[Course]) -> Figure:
    figure = _figure(7.6)
    (auc, gap), (brier, cost) = figure.subplots(2, 2)
    for course, style in zip(courses, _STYLES, strict=True):
        figures, look = course.figures, _look(*style)
        places = range(len(figures))
        auc.plot(places, [each.auc.value for each in figures], **look, label=course.policy)
        gap.plot(places, [each.predicted_rate - each.late_rate for each in figures], **look)
        brier.plot(places, [each.brier.value for each in figures], **look)
        pooled = course.pooled["log_loss"]
        cost.errorbar([course.trainings], [pooled.value], yerr=_spans([pooled]), **look, capsize=3)
    for axes in (auc, gap, brier):
        _name(axes, [each.month for each in courses[0].months])
    auc.set_title("AUC", loc="left")
    gap.set_title("Mean prediction minus late rate", loc="left")
    gap.axhline(0, color=_GREY, linewidth=0.8)
    gap.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    brier.set_title("Brier score (less is better)", loc="left")
    cost.set_title("Log loss of all months, 95 % interval", loc="left")
    cost.set_xlabel("trainings after the first")
    figure.legend(loc="outside lower center", ncols=len(courses), frameon=False)
    return figure


def _look(colour: str, marker: str, size: int) -> dict[str, Any]:
    look = {"color": colour, "marker": marker, "markersize": size, "linewidth": 1.2}
    return look | {"markerfacecolor": "white", "markeredgewidth": 1.5}


def _spans(metrics: Sequence[Metric]) -> list[list[float]]:
    """Return how far the intervals reach below and above; nothing where there is none."""
    lows = [each.value - (each.value if each.low is None else each.low) for each in metrics]
    highs = [(each.value if each.high is None else each.high) - each.value for each in metrics]
    return [lows, highs]


def _name(axes: Axes, months: Sequence[str]) -> None:
    axes.set_xticks(range(len(months)), [pd.Timestamp(each).strftime("%b") for each in months])


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(9, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
