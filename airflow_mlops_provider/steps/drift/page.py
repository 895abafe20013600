"""The report that a person reads about drift, with a picture of each feature that moved."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import PercentFormatter

from airflow_mlops_provider.steps.pages import render_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ft2font import FT2Font
    from numpy.typing import NDArray

    from airflow_mlops_provider.records import DriftReport, FeatureDrift
    from airflow_mlops_provider.steps.drift.compare import Comparison, Evidence

MAX_PICTURES = 30
_MAX_LABEL = 28
_FONT = "DejaVu Sans"  # comes with matplotlib
_SIDES = {"reference": "#9fb3c8", "current": "#d64545"}
_INK, _SOFT, _LINE = "#1f2933", "#616e7c", "#e4e7eb"


def pictures(comparison: Comparison) -> dict[str, bytes]:
    """Draw the features that drifted, at most 30, in their order: those that moved most first.

    Returns:
        Feature name to PNG: the share of rows in each bin, reference against current.
    """
    drifted = [each for each in comparison.report.features if each.status == "drifted"]
    return {
        each.feature: _picture(each, comparison.evidence[each.feature])
        for each in drifted[:MAX_PICTURES]
    }


def drift_page(
    report: DriftReport,
    pictures: Mapping[str, bytes],
    *,
    name: str,
    max_share: float,
    consecutive: int,
    window: str | None = None,
) -> str:
    """Return the report as one HTML page that fetches nothing.

    Args:
        report: What was found, with its streak.
        pictures: What :func:`pictures` drew of it.
        name: What was looked at.
        max_share: The share of drifted features from which on it counts as drifted.
        consecutive: How many drifted windows in a row ask for retraining.
        window: End of the window, as the title tells it.
    """
    return render_page(
        "drift_report.html",
        report=report,
        pictures=pictures,
        name=name,
        max_share=max_share,
        consecutive=consecutive,
        window=window,
        n_drifted=sum(each.status == "drifted" for each in report.features),
    )


def _picture(feature: FeatureDrift, evidence: Evidence) -> bytes:
    figure = Figure(figsize=(5.8, 1.3 + 0.3 * len(evidence.labels)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _draw_bars(axes, evidence)
    title = f"{_plain(feature.feature, 40)}   PSI {feature.psi or 0:.2f}"
    heading = figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=11)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    for text in (heading, *axes.get_yticklabels()):
        text.set_fontfamily(_FONT)
        text.set_parse_math(False)  # a name may hold dollars
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def _draw_bars(axes: Axes, evidence: Evidence) -> None:
    """Draw two bars a bin, one bin a line; the last one, of missing values, stands apart."""
    place = np.arange(len(evidence.labels), dtype=float)
    place[-1] += 0.5
    sides = (_shares(evidence.reference), _shares(evidence.current))
    for offset, shares, (label, color) in zip((-0.19, 0.19), sides, _SIDES.items(), strict=True):
        axes.barh(place + offset, shares, height=0.36, color=color, label=label)
    axes.axhline(place[-1] - 0.75, color=_SOFT, linewidth=0.6, linestyle=":")
    axes.set_yticks(place, [_plain(label) for label in evidence.labels])
    axes.invert_yaxis()
    axes.margins(y=0.02)
    axes.set_xlim(left=0)
    axes.set_xlabel("share of rows", color=_SOFT)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.tick_params(colors=_INK, length=0)
    axes.grid(axis="x", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / max(1, counts.sum())
    return shares


def _plain(label: str, longest: int = _MAX_LABEL) -> str:
    """Return a label cut to length, with an escape for each character that cannot be drawn."""
    font = _font()
    drawn = "".join(
        each
        if each.isprintable() and font.get_char_index(ord(each))
        else each.encode("unicode_escape").decode()
        for each in label[:longest]
    )
    return drawn if len(label) <= longest >= len(drawn) else f"{drawn[: longest - 1]}…"


@cache
def _font() -> FT2Font:
    return get_font(findfont(FontProperties(family=_FONT)))
