"""Pairs of answers to mirrored requests, read out of the prediction log as it grows.

The champion's and the shadow's records of a request meet by ``(request_id, row)``. Segments are
read from where the last look ended, the open ones too, so a look costs what was logged since.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.scores import numeric_score

ZERO = {
    "pairs": 0,
    "disagreements": 0,
    "scored": 0,
    "difference_sum": 0.0,
    "difference_sq_sum": 0.0,
    "log_latency_sum": 0.0,
    "log_latency_sq_sum": 0.0,
    "champion_failed": 0,
    "shadow_failed": 0,
}
_WAITING = 50_000
"""Records that wait for their counterpart; beyond it the oldest are taken as unpaired."""
_CHUNK_BYTES = 8 << 20
_FIRST_FAILURE = 500
_MIN_LATENCY_MS = 1e-3


@dataclass(frozen=True, slots=True)
class Answer:
    """What one side said to one row of a request."""

    deployment: str
    failed: bool
    output: Any
    latency_ms: float

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Answer | None:
        """Read a record; None for a client's error, in which there is nothing to compare."""
        status = int(record["status"])
        if 400 <= status < _FIRST_FAILURE:
            return None
        return cls(
            deployment=record["deployment"],
            failed=status >= _FIRST_FAILURE,
            output=record["outputs"],
            latency_ms=max(float(record["latency_ms"]), _MIN_LATENCY_MS),
        )


@dataclass
class PairReader:
    """Counts the pairs in the log of one endpoint; call :meth:`read` from one thread at a time.

    Args:
        folder: Where the segments of the endpoint lie.
        tolerance: Numeric scores that are further apart disagree; other answers must be equal.
    """

    folder: Path
    tolerance: float
    _offsets: dict[str, int] = field(default_factory=dict)
    _served: OrderedDict[tuple[str, int], Answer] = field(default_factory=OrderedDict)
    _shadowed: OrderedDict[tuple[str, int], list[Answer]] = field(default_factory=OrderedDict)
    _counts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read(self) -> dict[str, dict[str, Any]]:
        """Read what was logged since the last time.

        Returns:
            Counts by shadow deployment: ``pairs`` that both answered, ``disagreements`` among
            them, sums of the differences (shadow minus champion) of scores and log latencies,
            and what one side alone failed.
        """
        for line in self._new_lines():
            try:
                self._add(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue  # a killed process leaves its last line torn
        return {name: dict(counts) for name, counts in self._counts.items()}

    def forget(self, deployment: str) -> None:
        """Drop the counts of a deployment that is gone."""
        self._counts.pop(deployment, None)

    def _new_lines(self) -> Iterator[bytes]:
        paths = {path.stem: path for path in sorted(self.folder.glob("*.open"))}
        paths |= {path.stem: path for path in sorted(self.folder.glob("*.jsonl"))}
        for stem in self._offsets.keys() - paths.keys():
            del self._offsets[stem]
        for stem, path in paths.items():
            for opened in (path, path.with_suffix(".jsonl")):  # it may be closed meanwhile
                try:
                    yield from self._grown(stem, opened)
                    break
                except FileNotFoundError:
                    continue

    def _grown(self, stem: str, path: Path) -> Iterator[bytes]:
        """Give the whole lines behind the last offset."""
        with path.open("rb") as file:
            file.seek(self._offsets.get(stem, 0))
            while chunk := file.readlines(_CHUNK_BYTES):
                whole = [line for line in chunk if line.endswith(b"\n")]
                self._offsets[stem] = self._offsets.get(stem, 0) + sum(map(len, whole))
                yield from whole
                if len(whole) < len(chunk):
                    return

    def _add(self, record: Mapping[str, Any]) -> None:
        answer, key = Answer.of(record), (str(record["request_id"]), int(record["row"]))
        if answer is None:
            return
        if not record["shadow"]:
            self._served[key] = answer
            for shadow in self._shadowed.pop(key, ()):
                self._count(answer, shadow)
        elif key in self._served:
            self._count(self._served[key], answer)
        else:
            self._shadowed.setdefault(key, []).append(answer)
        for waiting in (self._served, self._shadowed):
            if len(waiting) > _WAITING:
                waiting.popitem(last=False)

    def _count(self, champion: Answer, shadow: Answer) -> None:
        counts = self._counts.setdefault(shadow.deployment, dict(ZERO))
        counts["champion_failed"] += champion.failed and not shadow.failed
        counts["shadow_failed"] += shadow.failed and not champion.failed
        if champion.failed or shadow.failed:
            return
        counts["pairs"] += 1
        slower = math.log(shadow.latency_ms / champion.latency_ms)
        counts["log_latency_sum"] += slower
        counts["log_latency_sq_sum"] += slower**2
        difference = _difference(numeric_score(champion.output), numeric_score(shadow.output))
        if difference is None:
            counts["disagreements"] += champion.output != shadow.output
            return
        counts["scored"] += 1
        counts["disagreements"] += abs(difference) > self.tolerance
        counts["difference_sum"] += difference
        counts["difference_sq_sum"] += difference**2


@dataclass
class Pairs:
    """The readers of a host's endpoints.

    Args:
        logs: Folder that holds one folder of segments an endpoint.
    """

    logs: Path
    _readers: dict[tuple[str, float], PairReader] = field(default_factory=dict)

    def read(
        self, endpoint: str, deployments: Collection[str], tolerance: float
    ) -> dict[str, dict[str, Any]]:
        """Return the counts of the endpoint's deployments (see :meth:`PairReader.read`).

        Raises:
            ParameterError: the tolerance is no number of 0 or more.
        """
        if not 0 <= tolerance < math.inf:
            raise ParameterError.of("tolerance", "pairs", "a number of 0 or more", tolerance)
        key = (endpoint, tolerance)
        if key not in self._readers:
            self._readers[key] = PairReader(self.logs / endpoint, tolerance)
        counted = self._readers[key].read()
        return {name: counts for name, counts in counted.items() if name in deployments}

    def forget(self, endpoint: str, deployment: str) -> None:
        """Drop the counts of a deployment that is gone, so that a new one begins at zero."""
        for (name, _), reader in self._readers.items():
            if name == endpoint:
                reader.forget(deployment)


def _difference(champion: float | None, shadow: float | None) -> float | None:
    """Return how much higher the shadow's score is; None when that is nothing to add up."""
    if champion is None or shadow is None:
        return None
    difference = shadow - champion
    return difference if math.isfinite(difference * difference) else None
