"""The pictures of a replay, for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from flights.replay_live import MAX_DRIFTED_SHARE, MAX_DROP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flights.replay_data import Landed
    from flights.replay_results import Course, Replay

_BLUE, _ORANGE, _GREEN, _GREY = "#0072b2", "#d55e00", "#009e73", "#8a94a0"
_STYLES = ((_GREY, "s"), (_BLUE, "o"), (_ORANGE, "^"))
"""Of each policy: colours of Okabe and Ito, and a marker for those who see none."""


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
    late.bar(_names(months), rates, color=colours)
    late.set_title("Late flights (grey: what the champion learned from)", loc="left")
    late.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _drift(drift, course)
    _performance(auc, course)
    return figure


def _drift(axes: Axes, course: Course) -> None:
    reports = [each.live.report for each in course.months]
    shares = [report.drift.share_drifted if report.drift else 0.0 for report in reports]
    raised = ["drift" in report.signals for report in reports]
    _dots(axes, course, shares, raised)
    axes.axhline(MAX_DRIFTED_SHARE, color=_ORANGE, linestyle="--", linewidth=1)
    axes.set_title("Features that drifted (filled: signal raised; dashed: threshold)", loc="left")
    axes.set_ylim(0, max(0.5, *shares) * 1.1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _performance(axes: Axes, course: Course) -> None:
    reports = [each.live.report for each in course.months]
    found = [report.performance["auc"] for report in reports]
    spans = [(each.value - (each.low or 0), (each.high or 1) - each.value) for each in found]
    names = _names([each.month for each in course.months])
    values = [each.value for each in found]
    axes.errorbar(names, values, yerr=list(zip(*spans, strict=True)), color=_BLUE, linestyle="none")
    _dots(axes, course, values, ["performance" in report.signals for report in reports])
    promised = course.months[0].champion.evaluation.metrics["auc"].value
    axes.axhline(promised - MAX_DROP, color=_ORANGE, linestyle="--", linewidth=1)
    axes.set_title("AUC with 95 % interval (filled: signal raised; dashed: threshold)", loc="left")


def _dots(axes: Axes, course: Course, values: Sequence[float], raised: Sequence[bool]) -> None:
    fill = [_ORANGE if each else "white" for each in raised]
    names = _names([each.month for each in course.months])
    axes.plot(names, values, color=_BLUE, linewidth=1)
    axes.scatter(names, values, c=fill, edgecolors=_BLUE, s=55, zorder=3)


def _policies(courses: Sequence[Course]) -> Figure:
    figure = _figure(7.6)
    (auc, gap), (loss, cost) = figure.subplots(2, 2)
    for course, (colour, marker) in zip(courses, _STYLES, strict=False):
        names = [name[:3] for name in _names([each.month for each in course.months])]
        look = {"color": colour, "marker": marker, "linewidth": 1.2, "markersize": 6}
        figures = course.figures
        auc.plot(names, [each.auc.value for each in figures], **look, label=course.policy)
        gap.plot(names, [each.predicted_rate - each.late_rate for each in figures], **look)
        loss.plot(names, [each.brier.value for each in figures], **look)
        pooled = course.pooled["log_loss"]
        span = [[pooled.value - (pooled.low or 0)], [(pooled.high or 0) - pooled.value]]
        cost.errorbar(course.trainings, pooled.value, yerr=span, **look, capsize=3)
    auc.set_title("AUC", loc="left")
    gap.set_title("Mean prediction minus late rate", loc="left")
    gap.axhline(0, color=_GREY, linewidth=0.8)
    gap.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    loss.set_title("Brier score (less is better)", loc="left")
    cost.set_title("Log loss of all months, 95 % interval", loc="left")
    cost.set_xlabel("trainings after the first")
    figure.legend(loc="outside lower center", ncols=len(courses), frameon=False)
    return figure


def _names(months: Sequence[str]) -> list[str]:
    return [pd.Timestamp(month).strftime("%b") for month in months]


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(9, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
