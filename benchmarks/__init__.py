"""Measurements that the documentation quotes: ``python -m benchmarks NAME [--quick]``.

Each module here is a benchmark: its ``run(quick)`` returns measures, of ours and of what we
compare it with, taken in turns within one call so that a busy machine slows both alike.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median


def _machine() -> str:
    cores = os.cpu_count()
    return f"{platform.machine()}, {cores} cores, Python {platform.python_version()}"


@dataclass(frozen=True)
class Measure:
    """One figure of ours beside the one it is compared with."""

    name: str
    ours: float
    theirs: float
    unit: str
    goal: str
    """What has to hold, in words."""
    holds: bool
    n: int
    """How often each side was measured; the figures are medians."""
    machine: str = field(default_factory=_machine)

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs

    def row(self) -> str:
        """Return the measure as a line of the table for people."""
        figures = f"{self.ours:12.4g} {self.theirs:12.4g} {self.unit:6} {self.ratio:7.3g}"
        return f"{self.name:28} {figures}  {'holds' if self.holds else 'FAILS':6} {self.goal}"

    def line(self) -> str:
        """Return the measure as one line of JSON."""
        return json.dumps({**asdict(self), "ratio": self.ratio})


def page(name: str, about: str, measures: list[Measure]) -> str:
    """Return the Markdown page that the documentation shows of a benchmark."""
    table = [
        "| | ours | compared with | unit | ratio | n | goal | |",
        "|---|--:|--:|---|--:|--:|---|---|",
        *(
            f"| {each.name} | {each.ours:.4g} | {each.theirs:.4g} | {each.unit} | {each.ratio:.3g} "
            f"| {each.n} | {each.goal} | {'holds' if each.holds else '**fails**'} |"
            for each in measures
        ),
    ]
    made = f"Made by `python -m benchmarks {name} --save docs/benchmarks` on {_machine()}."
    return "\n\n".join([f"# Benchmark `{name}`", about, "\n".join(table), made]) + "\n"


HEADER = f"{'':28} {'ours':>12} {'theirs':>12} {'unit':6} {'ratio':>7}  {'':6} goal"


def in_turns(n: int, ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float]:
    """Measure both sides ``n`` times, one after the other, and return their medians."""
    pairs = [(ours(), theirs()) for _ in range(n)]
    return median(first for first, _ in pairs), median(second for _, second in pairs)
