"""How large an effect is, and how large it gets by luck alone.

The null distribution of the PSI is drawn (parametric bootstrap, 2,000 draws): samples as large as
the reference and the current rows, both from the distribution of the reference. Drawing one side
only, or asking fixed thresholds, would cry wolf on small samples and many categories.

Categories need more care, for their bins are chosen by the counts that are then compared: the
commonest levels of a small reference are partly there by luck. So levels are drawn and ranked
anew each time, from counts shrunk to their mean as far as luck explains their spread (linear
empirical Bayes, Robbins 1956). And new rows bring levels never seen: a share of them as large as
that of levels seen once (Good 1953).

Beyond the 20th largest draw the tail is that of a gamma distribution with the draws' mean and
variance, so that p-values do not end at one in 2,000; Benjamini-Hochberg over hundreds of
features needs smaller ones.

scipy.special does what little is needed of scipy.stats, whose import takes longer than to compare
a hundred thousand rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaincc, gammainccinv, rel_entr

from airflow_mlops_provider.steps.drift.cells import TOP, Cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Floats = NDArray[np.float64]

_DRAWS = 2_000
_ANCHOR = 20
_P_ANCHOR = (1 + _ANCHOR) / (1 + _DRAWS)
_COMPETING = 1_000
"""Levels that are ranked in each draw; the rarer ones can hardly become common by luck."""
_SEED = 0


@dataclass(frozen=True)
class Null:
    """PSIs of samples between which nothing drifted."""

    draws: Floats
    """Sorted."""

    def p_value(self, effect: float) -> float:
        """Return how probable it is to reach ``effect`` by luck."""
        reached = len(self.draws) - int(self.draws.searchsorted(effect, "left"))
        if reached >= _ANCHOR:
            return (1 + reached) / (1 + len(self.draws))
        if self._is_constant:
            return 0.0
        shape, scale = self._gamma
        beyond = gammaincc(shape, effect / scale) / gammaincc(shape, self._anchor / scale)
        return float(_P_ANCHOR * beyond)

    def quantile(self, p: float) -> float:
        """Return what luck exceeds with probability ``p``, at most 1 %."""
        if self._is_constant:
            return float(self.draws[-1])
        shape, scale = self._gamma
        beyond = gammaincc(shape, self._anchor / scale) * p / _P_ANCHOR
        return float(scale * gammainccinv(shape, beyond))

    @property
    def _anchor(self) -> float:
        return float(self.draws[-_ANCHOR])

    @property
    def _is_constant(self) -> bool:
        return bool(self.draws[0] == self.draws[-1])

    @property
    def _gamma(self) -> tuple[float, float]:
        """Return shape and scale."""
        mean, variance = float(self.draws.mean()), float(self.draws.var())
        return mean**2 / variance, variance / mean


def psi(reference: Counts, current: Counts) -> Floats:
    """Return the population stability index over the last axis, half a row added to each bin."""
    p, q = (
        (counts + 0.5) / (counts.sum(-1, keepdims=True) + 0.5 * counts.shape[-1])
        for counts in (reference, current)
    )
    index: Floats = ((q - p) * np.log(q / p)).sum(-1)
    return index


def null_of(cells: Cells, n_current: int) -> Null:
    """Return the null distribution for one feature and a number of current rows."""
    counts = cells.reference
    if cells.is_categorical and len(cells.profile.levels) > TOP:
        return _null_of_levels(tuple(counts.tolist()), cells.unseen_rate, n_current)
    return null_of_bins(tuple(cells.bins(counts).tolist()), cells.unseen_rate, n_current)


@lru_cache(maxsize=1024)
def null_of_bins(reference: tuple[int, ...], unseen_rate: float | None, n_current: int) -> Null:
    """Draw from rows a bin.

    Args:
        reference: Rows a bin. Of categories, the last three are for others, unseen and missing.
        unseen_rate: Share of current rows to expect among the unseen; None if there is no such
            bin.
        n_current: Current rows.
    """
    rng = np.random.default_rng(_SEED)
    p = (np.array(reference) + 0.5) / (sum(reference) + 0.5 * len(reference))
    q = p.copy()
    if unseen_rate is not None:
        p[-2] = 0
        q[-3:-1] = max(q[-3] - unseen_rate, 0), unseen_rate
    samples = (
        rng.multinomial(n, each / each.sum(), _DRAWS)
        for n, each in ((sum(reference), p), (n_current, q))
    )
    return Null(np.sort(psi(*samples)))


@lru_cache(maxsize=256)
def _null_of_levels(counts: tuple[int, ...], unseen_rate: float | None, n_current: int) -> Null:
    """Draw from rows a level, with those of all others and the missing behind them."""
    rng = np.random.default_rng(_SEED)
    competing = np.array(counts[:-2][:_COMPETING], dtype=float)
    spread = competing.var()
    by_luck = min(1.0, competing.mean() / spread) if spread else 1.0
    shrunk = by_luck * competing.mean() + (1 - by_luck) * competing
    rest, missing, new = sum(counts[_COMPETING:-1]), counts[-1] + 0.5, unseen_rate or 0.0
    p = np.array([*shrunk, rest, missing]) / (shrunk.sum() + rest + missing)
    p = np.append(p * (1 - new), new)
    first, second = (rng.multinomial(n, p, _DRAWS) for n in (sum(counts), n_current))
    return Null(np.sort(psi(*_ranked(first, second, unseen_rate is not None))))


def _ranked(first: Counts, second: Counts, knows_all: bool) -> tuple[Counts, Counts]:
    """Bin drawn levels as if the first sample were the reference.

    Both have the shape (draws, levels + 3); behind the levels come others, missing and new ones.
    """
    a, b = first[:, :-3], second[:, :-3]
    seen = a > 0
    best = np.argpartition(a, -TOP, axis=1)[:, -TOP:]
    top_a = np.take_along_axis(a, best, 1)
    top_b = np.take_along_axis(b * seen, best, 1)
    other_a = a.sum(1) - top_a.sum(1) + first[:, -3] + first[:, -1]
    other_b = (b * seen).sum(1) - top_b.sum(1) + second[:, -3]
    new_b = (b * ~seen).sum(1) + second[:, -1]
    if not knows_all:
        other_b, new_b = other_b + new_b, np.zeros_like(new_b)
    return (
        np.column_stack([top_a, other_a, np.zeros_like(new_b), first[:, -2]]),
        np.column_stack([top_b, other_b, new_b, second[:, -2]]),
    )


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for each other (Benjamini and Hochberg 1995)."""
    p = np.array(p_values)
    order = np.argsort(-p, kind="stable")
    ranks = np.arange(len(p), 0, -1)
    p[order] = np.minimum.accumulate(p[order] * len(p) / ranks)
    return [float(each) for each in np.minimum(p, 1.0)]


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """Return the Jensen-Shannon distance with base 2 over the bins, in [0, 1]."""
    p, q = reference / reference.sum(), current / current.sum()
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle) + rel_entr(q, middle)).sum() / 2
    return float(np.sqrt(max(divergence, 0.0) / np.log(2)))


def kolmogorov_smirnov(reference: Counts, current: Counts) -> float | None:
    """Return the Kolmogorov-Smirnov distance from rows a cell, without the missing ones.

    It is taken at the ends of the cells, and so at most 0.004 too small. None if a side is empty.
    """
    if not reference.sum() or not current.sum():
        return None
    return float(np.abs(_cumulated(reference) - _cumulated(current)).max())


def wasserstein(feature: Cells, current: Counts) -> float | None:
    """Return the Wasserstein distance in standard deviations of the reference.

    Rows are taken as spread evenly within their cell: exact to the width of the cells, which
    beyond the range of the reference double. None if a side is empty or the distance overflows.
    """
    reference, std = feature.reference[:-1], feature.profile.std
    if not reference.sum() or not current.sum() or not std:
        return None
    gap = (_cumulated(reference) - _cumulated(current))[:-1]
    first, second = np.abs(gap[:-1]), np.abs(gap[1:])
    total = first + second
    crossing = gap[:-1] * gap[1:] < 0
    # the mean of |gap| on its straight way from one end of the cell to the other
    with np.errstate(invalid="ignore", over="ignore"):
        mean = np.where(crossing, (first**2 + second**2) / (2 * total), total / 2)
        distance = float((np.diff(feature.profile.edges) / std * mean).sum())
    return distance if np.isfinite(distance) else None


def _cumulated(counts: Counts) -> Floats:
    return np.asarray(counts.cumsum() / counts.sum())
