"""Counters of a deployment in a small memory-mapped file.

The scorer adds, the host reads. The file outlives both, so a restarted scorer counts on from
where its killed predecessor stood and no count ever decreases.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
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
LATER_COUNTS = ("scored", "unlogged")
LATER_SUMS = ("score_sum", "score_sq_sum")
"""Of live answered rows with a numeric score; what follows the buckets came after them."""
_FIELDS = (*COUNTS, *SUMS)
_BUCKETS = range(len(_FIELDS), len(_FIELDS) + len(BUCKETS_MS) + 1)
_LATER = (*LATER_COUNTS, *LATER_SUMS)
_N = _BUCKETS.stop + len(_LATER)
_CELL = {name: i for i, name in enumerate(_FIELDS)} | {
    name: _BUCKETS.stop + i for i, name in enumerate(_LATER)
}
_MIN_LATENCY_MS = 1e-3


class Counters:
    """The counters at ``path``, created at zero if missing. One writer at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.truncate(max(_N * 8, os.fstat(file.fileno()).st_size))
            if sys.platform == "linux":  # writing to a hole is a SIGBUS once the disk is full
                os.posix_fallocate(file.fileno(), 0, _N * 8)
            self._cells = memoryview(mmap.mmap(file.fileno(), _N * 8)).cast("d")

    def add(self, name: str, amount: float = 1) -> None:
        """Add to one of the counters."""
        self._cells[_CELL[name]] += amount

    def add_scores(self, scores: Iterable[float]) -> None:
        """Count the scores that users were given, of those that can be squared."""
        given = [score for score in scores if math.isfinite(score * score)]
        self.add("scored", len(given))
        self.add("score_sum", sum(given))
        self.add("score_sq_sum", sum(score * score for score in given))

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
        counted = values[_BUCKETS.start : _BUCKETS.stop]
        for bound, count in zip((*BUCKETS_MS, "+Inf"), counted, strict=True):
            total += int(count)
            buckets[str(bound)] = total
        counts = {name: int(values[_CELL[name]]) for name in (*COUNTS, *LATER_COUNTS)}
        sums = {name: values[_CELL[name]] for name in (*SUMS, *LATER_SUMS)}
        return {**counts, **sums, "latency_buckets": buckets}


def counters_path(folder: Path, endpoint: str, deployment: str, worker: int = 0) -> Path:
    """Return where the counters of a deployment's worker lie under the host's folder."""
    name = f"{deployment}.{worker}.bin" if worker else f"{deployment}.bin"
    return folder / "counters" / endpoint / name


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
