"""What a target counted of the two deployments of a rollout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.steps.rollout.metrics import read_extra
from airflow_mlops_provider.steps.rollout.sequential import Sample

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.metrics import MetricSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests of one deployment and what became of them."""

    requests: int = 0
    errors: int = 0
    schema_violations: int = 0
    timed: int = 0
    """Requests whose latency was measured."""
    log_sum: float = 0.0
    log_squares: float = 0.0
    extra: dict[str, float] = field(default_factory=dict)
    """Counters of the plan's own metrics."""

    @classmethod
    def read(
        cls,
        counters: Mapping[str, Any],
        metrics: tuple[MetricSpec, ...] = (),
        slow_above: str | None = None,
    ) -> Counts:
        """Take what matters from the cumulative counters that a serving target reports.

        Raises:
            KeyError, TypeError, ValueError: a counter is missing, or no finite number.
        """
        return _finite(
            cls(
                requests=counters["requests"],
                errors=counters["errors"],
                schema_violations=counters["schema_violations"],
                timed=counters["latency_buckets"].get("+Inf", 0),
                log_sum=counters["log_latency_sum"],
                log_squares=counters["log_latency_sq_sum"],
                extra=read_extra(metrics, counters, slow_above),
            )
        )

    @classmethod
    def read_shadow(cls, counters: Mapping[str, Any]) -> Counts:
        """Take what a deployment counted of mirrored requests; as for :meth:`read`."""
        return _finite(
            cls(
                requests=counters["shadow_requests"],
                errors=counters["shadow_errors"],
                schema_violations=counters["schema_violations"],
            )
        )

    def since(self, before: Counts) -> Counts:
        """Return what was counted after ``before``; a restarted counter began at zero."""
        mine, theirs = self._integers(), before._integers()
        if any(now < then for now, then in zip(mine, theirs, strict=True)):
            return self
        known = {name: value for name, value in self.extra.items() if name in before.extra}
        return self._combined(before, -1, known)

    def plus(self, other: Counts) -> Counts:
        """Return the sum of both."""
        return self._combined(other, 1, {**dict.fromkeys(other.extra, 0.0), **self.extra})

    @property
    def latency(self) -> Sample:
        """The logarithms of the measured latencies."""
        return Sample(n=self.timed, total=self.log_sum, squares=self.log_squares)

    def _integers(self) -> tuple[int, ...]:
        return self.requests, self.errors, self.schema_violations, self.timed

    def _combined(self, other: Counts, sign: int, extra: dict[str, float]) -> Counts:
        return Counts(
            requests=self.requests + sign * other.requests,
            errors=self.errors + sign * other.errors,
            schema_violations=self.schema_violations + sign * other.schema_violations,
            timed=self.timed + sign * other.timed,
            log_sum=self.log_sum + sign * other.log_sum,
            log_squares=self.log_squares + sign * other.log_squares,
            extra={name: value + sign * other.extra.get(name, 0) for name, value in extra.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The counts of both deployments."""

    champion: Counts = field(default_factory=Counts)
    candidate: Counts = field(default_factory=Counts)

    def since(self, before: Sides) -> Sides:
        """Return what each side counted after ``before``."""
        return Sides(
            champion=self.champion.since(before.champion),
            candidate=self.candidate.since(before.candidate),
        )

    def plus(self, other: Sides) -> Sides:
        """Return the sums of both sides."""
        return Sides(
            champion=self.champion.plus(other.champion),
            candidate=self.candidate.plus(other.candidate),
        )

    @property
    def share(self) -> float:
        """The candidate's share of the requests; 0 when there were none."""
        total = self.champion.requests + self.candidate.requests
        return self.candidate.requests / total if total else 0.0


def _finite(counts: Counts) -> Counts:
    numbers = (*counts._integers(), counts.log_sum, counts.log_squares, *counts.extra.values())
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"counters that are no finite numbers: {counts}")
    return counts
