"""Small line charts as SVG: no scripts, no fonts or files from elsewhere, colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from markupsafe import Markup, escape

WIDTH, HEIGHT = 460, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 26
_TICKS = 4
_FLAT = 1e-12


@dataclass(frozen=True, kw_only=True)
class Line:
    """One quantity over time; None is a gap."""

    name: str
    colour: int = 0
    """Which of the page's colours, from 0 on."""
    times: Sequence[float]
    """Seconds since the epoch, ascending."""
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    """With ``high``: a band around the line."""
    high: Sequence[float | None] = ()
    stepped: bool = False
    """Whether each value holds until the next one."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over one another, with an optional threshold."""

    title: str
    lines: Sequence[Line]
    threshold: float | None = None
    threshold_name: str = ""
    logarithmic: bool = False
    unit: str = ""
    bounds: tuple[float, float] | None = None
    extra: Sequence[float] = field(default=())
    """Values that the axis has to show too."""


def svg(chart: Chart) -> Markup:
    """Return the chart as an ``<svg>`` element; every text in it is escaped."""
    axes = _Axes(chart)
    parts = [*_grid(chart, axes), *_threshold(chart, axes)]
    for line in chart.lines:
        parts += _drawn(line, axes)
    label = escape(f"{chart.title}: {', '.join(line.name for line in chart.lines)}")
    body = Markup("").join(parts)
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, HEIGHT, label, body)


class _Axes:
    """Where a time and a value lie in the picture."""

    def __init__(self, chart: Chart) -> None:
        self.logarithmic = chart.logarithmic
        times = [moment for line in chart.lines for moment in line.times]
        self.start, self.end = (min(times), max(times)) if times else (0.0, 1.0)
        if self.end - self.start < 1:
            self.end = self.start + 1
        low, high = chart.bounds or self._span(chart)
        self.low, self.high = self._scale(low), self._scale(high)

    def x(self, moment: float) -> float:
        share = (moment - self.start) / (self.end - self.start)
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (self._scale(value) - self.low) / (self.high - self.low)
        return round(HEIGHT - _BOTTOM - min(max(share, 0), 1) * (HEIGHT - _TOP - _BOTTOM), 1)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            whole = range(math.ceil(self.low), math.floor(self.high) + 1)
            return [10.0**power for power in whole[:: max(1, math.ceil(len(whole) / _TICKS))]]
        size = (self.high - self.low) / _TICKS
        magnitude = 10.0 ** math.floor(math.log10(size))
        step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= size * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [place * step for place in range(first, last + 1)]

    def _span(self, chart: Chart) -> tuple[float, float]:
        values = [*chart.extra, *([] if chart.threshold is None else [chart.threshold])]
        for line in chart.lines:
            for series in (line.values, line.low, line.high):
                values += [value for value in series if value is not None]
        if self.logarithmic:
            values = [value for value in values if value > 0]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if self.logarithmic:
            return low / 2, high * 2
        room = max((high - low) * 0.08, abs(high) * 1e-3, _FLAT)
        return low - room, high + room

    def _scale(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.logarithmic else value


def _grid(chart: Chart, axes: _Axes) -> list[Markup]:
    parts = []
    for value in axes.ticks():
        y = axes.y(value)
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
                '<text class="tick" x="{}" y="{}" text-anchor="end">{}{}</text>'
            ).format(_LEFT, WIDTH - _RIGHT, y, y, _LEFT - 6, y + 4, _figure(value), chart.unit)
        )
    parts.extend(
        Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>').format(
            axes.x(moment), HEIGHT - 8, anchor, _clock(moment, axes.end - axes.start)
        )
        for moment, anchor in (
            (axes.start, "start"),
            ((axes.start + axes.end) / 2, "middle"),
            (axes.end, "end"),
        )
    )
    return parts


def _threshold(chart: Chart, axes: _Axes) -> list[Markup]:
    if chart.threshold is None:
        return []
    y = axes.y(chart.threshold)
    drawn = Markup(
        '<line class="threshold" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text class="limit" x="{}" y="{}">{}</text>'
    )
    above = y - 4 if y > _TOP + 14 else y + 13
    return [drawn.format(_LEFT, WIDTH - _RIGHT, y, y, _LEFT + 3, above, chart.threshold_name)]


def _drawn(line: Line, axes: _Axes) -> list[Markup]:
    parts = []
    band = [
        (axes.x(moment), axes.y(low), axes.y(high))
        for moment, low, high in zip(line.times, line.low, line.high, strict=False)
        if low is not None and high is not None
    ]
    if len(band) > 1:
        upper = [f"{x},{high}" for x, _, high in band]
        lower = [f"{x},{low}" for x, low, _ in reversed(band)]
        parts.append(
            Markup('<polygon class="band line{}" points="{}"/>').format(
                line.colour, " ".join(upper + lower)
            )
        )
    points: list[tuple[float, float]] = []
    for moment, value in zip(line.times, line.values, strict=True):
        if value is None:
            continue
        if line.stepped and points:
            points.append((axes.x(moment), points[-1][1]))
        points.append((axes.x(moment), axes.y(value)))
    if points:
        drawn = " ".join(f"{x},{y}" for x, y in points)
        parts.append(Markup('<polyline class="line{}" points="{}"/>').format(line.colour, drawn))
        x, y = points[-1]
        parts.append(
            Markup('<circle class="line{}" cx="{}" cy="{}" r="3"/>').format(line.colour, x, y)
        )
    return parts


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) > _FLAT else "0"


def _clock(moment: float, span: float) -> str:
    form = "%d %b %H:%M" if span > 86400 else "%H:%M:%S" if span < 3600 else "%H:%M"
    return datetime.fromtimestamp(moment, UTC).strftime(form)
