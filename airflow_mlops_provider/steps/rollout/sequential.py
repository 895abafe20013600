"""Comparisons of a candidate with a champion that stay valid however often one looks.

A test that is repeated at each look ends in a false alarm sooner or later. These do not:
the chance that they *ever* accuse a candidate that is within its margin is at most ``alpha``.
They carry their state as JSON numbers from look to look, and do not care how the common level
moves over the day or when the traffic weights change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

GRID_SIZE = 24
LARGEST_RATIO = 20.0
MIN_SAMPLE = 30
"""Observations on each side before the asymptotic sequence says anything."""
_LARGEST_LOG = 25.0
_BISECTIONS = 40
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
    share. A ratio weighs ``1 / sqrt(r)`` in the mixture, because small ones are the likelier to
    come and the harder to see. (Lindon and Malek 2022, "Anytime-valid inference for multinomial
    count data"; Ramdas et al. 2023, "Game-theoretic statistics and safe anytime-valid
    inference".)
    """

    margin: float
    log_likelihood: tuple[float, ...] = (0.0,) * GRID_SIZE
    """Log likelihood ratio of each ratio of the grid."""

    def updated(self, *, candidate_events: float, champion_events: float, share: float) -> RateTest:
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

    def rejects(self, alpha: float) -> bool:
        """Tell whether the candidate is proven to be beyond the margin."""
        return self.log_e_value > -math.log(alpha)

    def leans(self, alpha: float) -> bool:
        """Tell whether the evidence is half the way (in logarithm) to a rejection."""
        return self.log_e_value > -math.log(alpha) / 2

    @property
    def e_value(self) -> float:
        """The e-value to four digits, up to about 7e10: beyond it nobody needs the digits."""
        return float(f"{math.exp(min(self.log_e_value, _LARGEST_LOG)):.4g}")

    @property
    def log_e_value(self) -> float:
        """Natural logarithm of the e-value; reject when it exceeds ``log(1 / alpha)``."""
        peak = max(self.log_likelihood)
        weights = [ratio**-0.5 for ratio in ratio_grid(self.margin)]
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
        return self.bounds(alpha)[0]

    def bounds(self, alpha: float) -> tuple[float, float] | tuple[None, None]:
        """Return both bounds, each of which holds at all times save with chance ``alpha``."""
        if self.difference is None:
            return None, None
        half = _half_width(self.weighted_variance / self.weight**2, alpha)
        return self.difference - half, self.difference + half


def paired_bounds(sample: Sample, alpha: float) -> tuple[float, float] | tuple[None, None]:
    """Return bounds of a mean of paired differences, each as :meth:`MeanTest.bounds` gives it."""
    if sample.n < MIN_SAMPLE:
        return None, None
    half = _half_width(sample.variance_of_mean, alpha)
    return sample.mean - half, sample.mean + half


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareTest:
    """A confidence sequence for the probability of an event, from counts alone.

    A probability ``p`` is left out when the mixture of all probabilities, each weighed alike,
    explains ``events`` of ``n`` more than ``1 / alpha`` times better than ``p`` does. (Robbins
    1970, "Statistical methods related to the law of the iterated logarithm"; Howard, Ramdas,
    McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences".)
    """

    n: int
    events: int

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Return bounds that hold at all times at once, save with chance ``alpha``."""
        share = self.events / self.n if self.n else 0.5
        low = _crossing(0.0, share, lambda p: self._log_e_value(p) > -math.log(alpha))
        high = _crossing(1.0, share, lambda p: self._log_e_value(p) > -math.log(alpha))
        return low, high

    def _log_e_value(self, p: float) -> float:
        hits, misses = self.events, self.n - self.events
        if (hits and p <= 0) or (misses and p >= 1):
            return math.inf
        mixed = math.lgamma(hits + 1) + math.lgamma(misses + 1) - math.lgamma(self.n + 2)
        fixed = (hits * math.log(p) if hits else 0) + (misses * math.log1p(-p) if misses else 0)
        return mixed - fixed


def _crossing(outside: float, inside: float, refused: Callable[[float], bool]) -> float:
    """Return by bisection where ``refused`` ends between a refused point and one that is not."""
    if not refused(outside):
        return outside
    for _ in range(_BISECTIONS):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if refused(middle) else (outside, middle)
    return outside


def _half_width(variance: float, alpha: float) -> float:
    if variance == 0:
        return 0.0
    n = 1 / variance
    r = (math.log1p(-2 * math.log(alpha)) - 2 * math.log(alpha)) / _TUNED_AT
    growth = n * r + 1
    return math.sqrt(2 * growth / (n**2 * r) * math.log(1 + math.sqrt(growth) / (2 * alpha)))
