"""Metrics of one's own: rates and means out of the counters that the target reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops_provider.exceptions import ParameterError, ServingUnavailableError
from airflow_mlops_provider.records import Record
from airflow_mlops_provider.steps.rollout.sequential import MeanTest, RateTest, Sample

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.counts import Counts, Sides

SLOW = "slow"
"""The rate of answers slower than the champion's 95th percentile, to the bucket above it."""
_SLOW_SHARE = 0.05
_SLOW_SAMPLE = 100
"""Latencies of the champion before its 95th percentile is taken as known."""
_COUNTS_OF = {"score": "scored"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec(Record):
    """A metric by which the candidate is judged beside errors and latency."""

    name: str
    """For a rate a counter of events, or ``slow``; for a mean the ``X`` of the counters
    ``X_sum`` and ``X_sq_sum``, such as ``score``."""
    kind: Literal["rate", "mean"]
    margin: float = 0.0
    """How much worse the candidate may be: relatively for a rate, absolutely for a mean."""
    direction: Literal["higher", "lower", "both"] = "higher"
    """Which way is worse; of a rate only ``higher``."""

    @property
    def counters(self) -> tuple[str, ...]:
        """The names of the counters it is made of."""
        if self.name == SLOW:
            return ("latency_buckets",)
        if self.kind == "rate":
            return (self.name,)
        return (f"{self.name}_sum", f"{self.name}_sq_sum", _COUNTS_OF.get(self.name, "requests"))

    def check(self) -> None:
        """Raise ParameterError for what no metric can be."""
        if self.kind == "rate" and (self.direction != "higher" or not 0 <= self.margin <= 10):
            constraint = "rates with the direction 'higher' and a margin from 0 to 10"
            raise ParameterError.of("metrics", "a rollout", constraint, self.to_xcom())
        if self.margin < 0:
            raise ParameterError.of("metrics", "a rollout", "margins of 0 or more", self.margin)


def check_counters(specs: tuple[MetricSpec, ...], counters: Mapping[str, Any] | None) -> None:
    """Refuse metrics that the target does not count; a misnamed one would never speak.

    Raises:
        ParameterError: a counter is missing; the message names those there are.
        ServingUnavailableError: the counters cannot be read now.
    """
    if not specs:
        return
    if counters is None:
        raise ServingUnavailableError(
            "The target's counters cannot be read, so the rollout's metrics cannot be checked."
        )
    for spec in specs:
        missing = [name for name in spec.counters if name not in counters]
        if missing:
            constraint = f"made of the target's counters ({', '.join(sorted(counters))})"
            raise ParameterError.of("metrics", "a rollout", constraint, spec.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricTest:
    """The evidence on one metric."""

    rate: RateTest | None = None
    mean: MeanTest | None = None

    @classmethod
    def of(cls, spec: MetricSpec) -> MetricTest:
        """Return the test of a metric before any evidence."""
        return (
            cls(rate=RateTest(margin=spec.margin)) if spec.kind == "rate" else cls(mean=MeanTest())
        )

    def updated(self, spec: MetricSpec, look: Sides) -> MetricTest:
        """Add the counts of one look; too few for a variance are left out."""
        if self.rate:
            return replace(self, rate=_rate_updated(self.rate, spec, look))
        assert self.mean is not None
        candidate, champion = (_sample(spec, side) for side in (look.candidate, look.champion))
        if min(candidate.n, champion.n) < 2:
            return self
        return replace(self, mean=self.mean.updated(candidate, champion))

    def finding(self, spec: MetricSpec, alpha: float) -> str | None:
        """Say what is proven against the candidate, if anything is."""
        if self.rate:
            if not self.rate.rejects(alpha):
                return None
            return f"its rate of {spec.name} exceeds the champion's by more than {spec.margin:.0%}"
        assert self.mean is not None
        both = spec.direction == "both"
        low, high = self.mean.bounds(alpha / 2 if both else alpha)
        above = spec.direction != "lower" and low is not None and low > spec.margin
        below = spec.direction != "higher" and high is not None and high < -spec.margin
        if not (above or below):
            return None
        way = "above" if above else "below"
        return f"its mean {spec.name} is more than {spec.margin:g} {way} the champion's"

    def leans(self, alpha: float) -> bool:
        """Tell whether a rate is half the way to a finding; a mean has no half way."""
        return self.rate is not None and self.rate.leans(alpha)

    def summary(self) -> dict[str, Any]:
        """Return the e-value of a rate, or the difference of means."""
        if self.rate:
            return {"e_value": self.rate.e_value}
        assert self.mean is not None
        difference = self.mean.difference
        return {"difference": None if difference is None else float(f"{difference:.4g}")}


def read_extra(
    specs: tuple[MetricSpec, ...], counters: Mapping[str, Any], slow_above: str | None
) -> dict[str, float]:
    """Take the counters of ``specs`` from what a target reports.

    Args:
        specs: The metrics.
        counters: Cumulative counters of one deployment.
        slow_above: The latency bucket whose bound an answer must exceed to be slow.

    Raises:
        KeyError: one is missing.
    """
    names = [name for spec in specs if spec.name != SLOW for name in spec.counters]
    extra = {name: float(counters[name]) for name in names}
    if slow_above is not None:
        buckets = counters["latency_buckets"]
        extra[SLOW] = float(buckets["+Inf"] - buckets[slow_above])
    return extra


def slow_bound(counters: Mapping[str, Any]) -> str | None:
    """Return the smallest bucket that holds 95 % of the champion's latencies, once it is known."""
    buckets = counters["latency_buckets"]
    total = buckets.get("+Inf", 0)
    if total < _SLOW_SAMPLE:
        return None
    bounds = [bound for bound, n in buckets.items() if n >= (1 - _SLOW_SHARE) * total]
    return next((bound for bound in bounds if bound != "+Inf"), None)


def _rate_updated(test: RateTest, spec: MetricSpec, look: Sides) -> RateTest:
    candidate, champion = look.candidate, look.champion
    slow = spec.name == SLOW
    exposed = [side.timed if slow else side.requests for side in (candidate, champion)]
    return test.updated(
        candidate_events=candidate.extra.get(spec.name, 0),
        champion_events=champion.extra.get(spec.name, 0),
        share=exposed[0] / sum(exposed) if sum(exposed) else 0.0,
    )


def _sample(spec: MetricSpec, side: Counts) -> Sample:
    total, squares, count = (side.extra.get(name, 0.0) for name in spec.counters)
    return Sample(n=int(count), total=total, squares=squares)
