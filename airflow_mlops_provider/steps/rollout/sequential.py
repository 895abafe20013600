"""Two comparisons of a candidate with a champion that stay valid however often one looks.

A test that is repeated at each look ends in a false alarm sooner or later. These two do not:
the chance that they *ever* accuse a candidate that is within its margin is at most ``alpha``.
Both carry their state as JSON numbers from look to look, and neither cares how the common level
moves over the day or when the traffic weights change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

GRID_SIZE = 24
LARGEST_RATIO = 20.0
MIN_SAMPLE = 30
"""Observations on each side before the asymptotic sequence says anything."""
_TUNED_AT = 1000.0
"""Precision ``1 / variance`` of the difference at which the confidence sequence is tightest."""


@cache
def ratio_grid(margin: float) -> tuple[float, ...]:
    """Return the rate ratios, evenly spaced in logarithm over ``(1 + margin, 20]``."""
    low, high = math.log1p(margin), math.log(LARGEST_RATIO)
    return tuple(math.exp(low + (high - low) * (i + 1) / GRID_SIZE) for i in range(GRID_SIZE))


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTest:
    """An e-process against "the candidate's rate is at most ``1 + margin`` times the champion's".

    It looks only at events (errors, say). Given an event while the candidate takes the share
    ``w`` of requests, under a rate ratio ``r`` the candidate is where it happened with
    probability ``w r / (w r + 1 - w)``. The e-value is the likelihood ratio of a mixture over
    :func:`ratio_grid` against ``1 + margin``, multiplied over the looks, each with its own
    share. A ratio weighs ``1 / r`` in the mixture, because small ones are the likelier to come
    and the harder to see. (Lindon and Malek 2022, "Anytime-valid inference for multinomial count
    data"; Ramdas et al. 2023, "Game-theoretic statistics and safe anytime-valid inference".)
    """

    margin: float
    log_likelihood: tuple[float, ...] = (0.0,) * GRID_SIZE
    """Log likelihood ratio of each ratio of the grid."""

    def updated(self, *, candidate_events: int, champion_events: int, share: float) -> RateTest:
        """Add one look, in which the candidate took ``share`` (0 to 1) of the requests."""
        if not 0 < share < 1 or candidate_events + champion_events == 0:
            return self
        bound = _from_candidate(1 + self.margin, share)
        steps = (
            candidate_events * math.log(p / bound)
            + champion_events * math.log((1 - p) / (1 - bound))
            for p in (_from_candidate(ratio, share) for ratio in ratio_grid(self.margin))
        )
        pairs = zip(self.log_likelihood, steps, strict=True)
        return replace(self, log_likelihood=tuple(old + step for old, step in pairs))

    @property
    def log_e_value(self) -> float:
        """Natural logarithm of the e-value; reject when it exceeds ``log(1 / alpha)``."""
        peak = max(self.log_likelihood)
        weights = [1 / ratio for ratio in ratio_grid(self.margin)]
        pairs = zip(weights, self.log_likelihood, strict=True)
        mixed = sum(weight * math.exp(value - peak) for weight, value in pairs)
        return peak + math.log(mixed / sum(weights))


def _from_candidate(ratio: float, share: float) -> float:
    return share * ratio / (share * ratio + 1 - share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Count, sum and sum of squares of a quantity on one side of a comparison."""

    n: int
    total: float
    squares: float

    @property
    def mean(self) -> float:
        """The sample mean; needs ``n >= 1``."""
        return self.total / self.n

    @property
    def variance_of_mean(self) -> float:
        """The unbiased variance of :attr:`mean`; needs ``n >= 2``."""
        return max(self.squares - self.total**2 / self.n, 0.0) / (self.n - 1) / self.n


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanTest:
    """A one-sided asymptotic confidence sequence for a difference of means, look by look.

    Every look is a stratum with its own difference, weighted by ``n m / (n + m)``, so that a
    level that moves while the weights move is not mistaken for a difference (Waudby-Smith,
    Arbour, Sinha, Kennedy and Ramdas 2021, "Time-uniform central limit theory and asymptotic
    confidence sequences").
    """

    weight: float = 0.0
    weighted_difference: float = 0.0
    weighted_variance: float = 0.0
    n_candidate: int = 0
    n_champion: int = 0

    def updated(self, candidate: Sample, champion: Sample) -> MeanTest:
        """Add one look; both samples need at least two observations."""
        weight = candidate.n * champion.n / (candidate.n + champion.n)
        variance = candidate.variance_of_mean + champion.variance_of_mean
        return MeanTest(
            weight=self.weight + weight,
            weighted_difference=self.weighted_difference
            + weight * (candidate.mean - champion.mean),
            weighted_variance=self.weighted_variance + weight**2 * variance,
            n_candidate=self.n_candidate + candidate.n,
            n_champion=self.n_champion + champion.n,
        )

    @property
    def difference(self) -> float | None:
        """Estimate of candidate minus champion, or None below 30 observations a side."""
        enough = min(self.n_candidate, self.n_champion) >= MIN_SAMPLE
        return self.weighted_difference / self.weight if enough else None

    def lower_bound(self, alpha: float) -> float | None:
        """Return what the difference exceeds at all times at once, save with chance ``alpha``."""
        if self.difference is None:
            return None
        variance = self.weighted_variance / self.weight**2
        return self.difference - _half_width(variance, alpha)


def _half_width(variance: float, alpha: float) -> float:
    if variance == 0:
        return 0.0
    n = 1 / variance
    r = (math.log1p(-2 * math.log(alpha)) - 2 * math.log(alpha)) / _TUNED_AT
    growth = n * r + 1
    return math.sqrt(2 * growth / (n**2 * r) * math.log(1 + math.sqrt(growth) / (2 * alpha)))
