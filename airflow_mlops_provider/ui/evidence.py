"""The ``history`` of a rollout's document as charts; what is missing or odd is left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.ui.charts import Chart, Line, svg

if TYPE_CHECKING:
    from markupsafe import Markup

Entry = Mapping[str, Any]
Colours = Mapping[str, int]
_MOST_ENTRIES = 1000
_LONGEST = 300
NOTHING = "-"
"""What stands where there is no value."""


def number(value: Any) -> float | None:
    """Return a finite number as a float, and anything else as None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def shown(value: Any) -> str:
    """Return a value of a document as text for people."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NOTHING}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {shown(each)}" for name, each in value.items())[:_LONGEST]
    return str(value)[:_LONGEST]


def entries_of(document: Mapping[str, Any]) -> list[Entry]:
    """Return the entries of the history that have a time, oldest first."""
    history = document.get("history")
    known = [
        entry
        for entry in (history if isinstance(history, list) else [])[-_MOST_ENTRIES:]
        if isinstance(entry, Mapping) and number(entry.get("t")) is not None
    ]
    return sorted(known, key=lambda entry: float(entry["t"]))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A chart as the page shows it."""

    title: str
    about: str
    legend: list[tuple[str, int]]
    """Name and colour of each line, if there are several."""
    svg: Markup


def charts_of(entries: Sequence[Entry], colours: Mapping[str, int]) -> list[Picture]:
    """Return a picture of each quantity that the history has.

    Args:
        entries: As :func:`entries_of` gives them.
        colours: The colour of each deployment.
    """
    if not entries:
        return []
    found = []
    for make, about in _CHARTS:
        chart = make(entries, colours)
        drawn = [line for line in chart.lines if any(value is not None for value in line.values)]
        if drawn:
            legend = [(line.name, line.colour) for line in drawn] if len(drawn) > 1 else []
            picture = svg(replace(chart, lines=drawn))
            found.append(Picture(title=chart.title, about=about, legend=legend, svg=picture))
    return found


def _traffic(entries: Sequence[Entry], colours: Colours) -> Chart:
    lines = _by_arm(entries, "weights", colours)
    return Chart(
        title="Traffic",
        lines=lines or [_line(entries, "candidate", "weight", stepped=True)],
        unit=" %",
        bounds=(0, 100),
    )


def _error_rates(entries: Sequence[Entry], colours: Colours) -> Chart:
    return Chart(
        title="Error rate in the current step",
        lines=[_rate(entries, side, f"{side}_errors") for side in ("candidate", "champion")],
        unit=" %",
        extra=(0.0, 1.0),
    )


def _error_evidence(entries: Sequence[Entry], colours: Colours) -> Chart:
    return Chart(
        title="Evidence against the candidate's errors",
        lines=[_line(entries, "e-value", "error_e_value")],
        threshold=_last(entries, "error_e_threshold"),
        threshold_name="roll back above",
        logarithmic=True,
        extra=(0.1, 10.0),
    )


def _latency(entries: Sequence[Entry], colours: Colours) -> Chart:
    return Chart(
        title="Latency, candidate over champion",
        lines=[_line(entries, "ratio", "latency_ratio")],
        threshold=1.0,
        threshold_name="equal",
        extra=(0.9, 1.1),
    )


def _difference(entries: Sequence[Entry], colours: Colours) -> Chart:
    return Chart(
        title="Difference, candidate minus champion",
        lines=[
            _line(
                entries,
                "difference",
                "difference",
                low=_series(entries, "low"),
                high=_series(entries, "high"),
            )
        ],
        threshold=0.0,
        threshold_name="no difference",
    )


def _experiment_evidence(entries: Sequence[Entry], colours: Colours) -> Chart:
    return Chart(
        title="Evidence",
        lines=[
            _line(entries, "different rates", "e_value"),
            _line(entries, "mismatch of units", "mismatch_e_value", colour=1),
            _line(entries, "mismatch of outcomes", "outcome_mismatch_e_value", colour=2),
        ],
        logarithmic=True,
        extra=(0.1, 10.0),
    )


def _disagreement(entries: Sequence[Entry], colours: Colours) -> Chart:
    return Chart(
        title="Answers that disagree",
        lines=[
            replace(
                _rate(entries, "shadow", "disagreements", of="pairs"),
                low=_series(entries, "disagreement_low", 100),
                high=_series(entries, "disagreement_high", 100),
            )
        ],
        unit=" %",
        extra=(0.0, 1.0),
    )


def _best(entries: Sequence[Entry], colours: Colours) -> Chart:
    return Chart(
        title="Probability of being the best",
        lines=_by_arm(entries, "probabilities", colours, percent=True),
        unit=" %",
        bounds=(0, 100),
    )


_CHARTS: tuple[tuple[Callable[[Sequence[Entry], Colours], Chart], str], ...] = (
    (_traffic, "Percent of requests."),
    (_best, "Posterior probability; it is no statement that holds however often one looks."),
    (_difference, "With the interval that holds at all looks at once."),
    (_experiment_evidence, "E-values; 1 is no evidence, and 1 / alpha decides."),
    (_error_rates, "Requests of the current step that failed."),
    (
        _error_evidence,
        "An e-value; 1 is no evidence, and it decides above the number of metrics / alpha.",
    ),
    (_latency, "Ratio of the typical (geometric mean) latencies."),
    (_disagreement, "Share of mirrored requests that both answered, but not alike."),
)


def _line(entries: Sequence[Entry], name: str, key: str, **options: Any) -> Line:
    return Line(name=name, times=_times(entries), values=_series(entries, key), **options)


def _rate(entries: Sequence[Entry], side: str, key: str, of: str = "") -> Line:
    total = of or f"{side}_requests"
    pairs = [(number(entry.get(key)), number(entry.get(total))) for entry in entries]
    values = [100 * k / n if n and k is not None else None for k, n in pairs]
    colour = 1 if side == "champion" else 0
    return Line(name=side, colour=colour, times=_times(entries), values=values)


def _by_arm(
    entries: Sequence[Entry], key: str, colours: Colours, *, percent: bool = False
) -> list[Line]:
    kept = [entry for entry in entries if isinstance(entry.get(key), Mapping)]
    factor = 100 if percent else 1
    names = dict.fromkeys(str(name) for entry in kept for name in entry[key])
    return [
        Line(
            name=name,
            colour=colours.get(name, 0),
            times=_times(kept),
            values=[_scaled(number(entry[key].get(name)), factor) for entry in kept],
            stepped=not percent,
        )
        for name in names
    ]


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _series(entries: Iterable[Entry], key: str, factor: float = 1) -> list[float | None]:
    return [_scaled(number(entry.get(key)), factor) for entry in entries]


def _times(entries: Iterable[Entry]) -> list[float]:
    return [float(entry["t"]) for entry in entries]


def _last(entries: Sequence[Entry], key: str) -> float | None:
    return number(entries[-1].get(key))
