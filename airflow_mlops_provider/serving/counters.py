"""Counters of a deployment in a small memory-mapped file.

The scorer adds, the host reads. The file outlives both, so a restarted scorer counts on from
where its killed predecessor stood and no count ever decreases.
"""

from __future__ import annotations

import math
import mmap
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
COUNTS = (
    "requests",
    "errors",
    "client_errors",
    "schema_violations",
    "shadow_requests",
    "shadow_errors",
)
SUMS = ("latency_ms_sum", "log_latency_sum", "log_latency_sq_sum")
_FIELDS = (*COUNTS, *SUMS)
_N = len(_FIELDS) + len(BUCKETS_MS) + 1
_MIN_LATENCY_MS = 1e-3


class Counters:
    """The counters at ``path``, created at zero if missing. One writer at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.truncate(_N * 8)
            self._cells = memoryview(mmap.mmap(file.fileno(), _N * 8)).cast("d")

    def add(self, name: str, amount: float = 1) -> None:
        """Add to one of the counters."""
        self._cells[_FIELDS.index(name)] += amount

    def add_latency(self, milliseconds: float) -> None:
        """Count the latency of one user request."""
        logarithm = math.log(max(milliseconds, _MIN_LATENCY_MS))
        self.add("latency_ms_sum", milliseconds)
        self.add("log_latency_sum", logarithm)
        self.add("log_latency_sq_sum", logarithm**2)
        self._cells[len(_FIELDS) + bisect_left(BUCKETS_MS, milliseconds)] += 1

    def read(self) -> dict[str, Any]:
        """Return all counters; ``latency_buckets`` is cumulative, as in Prometheus."""
        values = list(self._cells)
        buckets, total = {}, 0
        for bound, count in zip((*BUCKETS_MS, "+Inf"), values[len(_FIELDS) :], strict=True):
            total += int(count)
            buckets[str(bound)] = total
        counts = {name: int(values[i]) for i, name in enumerate(COUNTS)}
        sums = {name: values[len(COUNTS) + i] for i, name in enumerate(SUMS)}
        return {**counts, **sums, "latency_buckets": buckets}


def counters_path(folder: Path, endpoint: str, deployment: str) -> Path:
    """Return where a deployment's counters lie under the host's folder."""
    return folder / "counters" / endpoint / f"{deployment}.bin"


def read_total(paths: Iterable[Path]) -> dict[str, Any]:
    """Return the sum of several counter files."""
    total: dict[str, Any] = {}
    for counters in (Counters(path).read() for path in paths):
        buckets = counters.pop("latency_buckets")
        known = total.pop("latency_buckets", {})
        total = {name: value + total.get(name, 0) for name, value in counters.items()}
        total["latency_buckets"] = {
            bound: count + known.get(bound, 0) for bound, count in buckets.items()
        }
    return total
