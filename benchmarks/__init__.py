"""Benchmarks and simulations: ``python -m benchmarks NAME [--quick]`` from the repository root.

Each module has ``run(quick) -> list[Measure]``. The last lines printed are one JSON object per
measure, for scripts to read.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure of ours beside one of theirs, taken in the same call."""

    name: str
    ours: float
    theirs: float | None
    unit: str
    goal: float
    better: Literal["lower", "higher"]
    """On which side of ``goal`` our figure has to be."""
    of_goal: Literal["ours", "ratio"] = "ours"
    n: int

    @property
    def ratio(self) -> float | None:
        """Ours over theirs, or None without something to divide by."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def holds(self) -> bool:
        """Whether the goal is met."""
        figure = self.ours if self.of_goal == "ours" else self.ratio
        if figure is None:
            return False
        return figure <= self.goal if self.better == "lower" else figure >= self.goal

    def as_json(self) -> str:
        """Return the measure as one line."""
        derived = {"ratio": self.ratio, "holds": self.holds, "machine": machine()}
        return json.dumps({**asdict(self), **derived})


def machine() -> str:
    """Name what the figures were taken on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
