"""Two-sided comparisons that stay valid however often one looks.

Both ask cumulative figures anew at each look and keep no state between looks, so a late outcome,
a retried look or a look that was skipped changes nothing about their error rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

EVENT_CONCENTRATION = 200.0
"""Prior weight, in events, of "no difference" in :func:`log_e_value` when it compares rates: the
typical alternative is a rate ratio of 1.15 either way."""
MISMATCH_CONCENTRATION = 500.0
"""The same, in units, for sample-ratio mismatch: the typical alternative is 52 against 48 %."""


def half_width(variance: float, alpha: float, tuned_variance: float) -> float:
    """Return the half-width of an asymptotic confidence sequence for a mean or a difference.

    The normal mixture of Robbins, with estimated variances: the truth lies within the estimate
    plus or minus this at *all* looks at once, with probability ``1 - alpha`` as samples grow
    (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021, "Time-uniform central limit theory and
    asymptotic confidence sequences", theorem 2.2; Howard, Ramdas, McAuliffe and Sekhon 2021,
    "Time-uniform, nonparametric, nonasymptotic confidence sequences", eq. 14).

    Args:
        variance: Variance of the estimate at this look.
        alpha: Chance that the truth is ever outside, both sides together.
        tuned_variance: The variance of the estimate at which the sequence is tightest, chosen
            without looking at the difference.
    """
    if variance == 0:
        return 0.0
    prior = _boundary(alpha) * tuned_variance
    spread = variance + variance**2 / prior
    return math.sqrt(spread * (math.log1p(prior / variance) - 2 * math.log(alpha)))


def decisive_variance(effect: float, alpha: float, power: float) -> float:
    """Return the variance of the estimate at which ``effect`` is found with ``power``.

    At that look alone; the looks before only add to the power. The sequence has to be tuned at
    this variance.
    """
    found_at = half_width(1.0, alpha, 1.0) + NormalDist().inv_cdf(power)
    return (effect / found_at) ** 2


def log_e_value(counts: Sequence[int], shares: Sequence[float], concentration: float) -> float:
    """Return the logarithm of an e-value against "these counts fall by these shares".

    The Bayes factor of a Dirichlet prior around ``shares`` against ``shares`` themselves, a
    martingale under them: that it ever exceeds ``1 / alpha`` has at most the chance ``alpha``
    (Lindon and Malek 2022, "Anytime-valid inference for multinomial count data", NeurIPS).

    Units by arm make it a test of sample-ratio mismatch. Events (units with outcome 1) by arm
    make it a test of equal rates: if the rates are equal, an event falls on an arm by that arm's
    share of the units, whatever the rate is and however it moves over time.

    Args:
        counts: What was counted, by arm.
        shares: What the arms should get; above 0, summing to 1.
        concentration: How many counts the prior weighs.
    """
    total = sum(counts)
    value = math.lgamma(concentration) - math.lgamma(concentration + total)
    for count, share in zip(counts, shares, strict=True):
        prior = concentration * share
        value += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return value


def _boundary(alpha: float) -> float:
    """Return how many prior variances the tuned variance is; nearly optimal (Howard et al.)."""
    return math.log1p(-2 * math.log(alpha)) - 2 * math.log(alpha)
