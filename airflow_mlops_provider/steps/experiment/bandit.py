"""Thompson sampling over the deployments of an endpoint: weights from posteriors, look by look.

Batched Thompson sampling (Thompson 1933; Chapelle and Li 2011, "An empirical evaluation of
Thompson sampling"): between two looks each arm gets the share of traffic that equals the
probability that it is the best one, but at least ``min_weight``. Rewards that come late just
come in at a later look. The posterior probability is no statement that holds however often one
looks: who needs one runs an A/B test.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

DRAWS = 20_000
"""Draws from the posteriors a look: probabilities are right to about half a percent."""
_PRIOR_SPREAD = 10.0
"""Width of the normal arms' prior, in standard deviations of a reward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """Discounted count, sum and sum of squares of an arm's rewards."""

    n: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(
        cls,
        values: Sequence[float] | np.ndarray,
        ages: Sequence[float] | np.ndarray,
        half_life: float | None,
    ) -> Rewards:
        """Add up rewards, each halved for every ``half_life`` seconds of its age."""
        value = np.asarray(values, dtype=float)
        weight = np.ones(len(value))
        if half_life is not None:
            weight = np.exp2(-np.maximum(np.asarray(ages, dtype=float), 0.0) / half_life)
        return cls(
            n=float(weight.sum()),
            total=float((weight * value).sum()),
            squares=float((weight * value**2).sum()),
        )

    def summary(self) -> dict[str, float]:
        """Return how many there are and their mean, rounded."""
        mean = self.total / self.n if self.n else 0.0
        return {"n": round(self.n, 1), "mean": float(f"{mean:.6g}")}


def probabilities_best(
    rewards: Mapping[str, Rewards],
    *,
    reward: Literal["bernoulli", "normal"],
    direction: Literal["increase", "decrease"],
    seed: int,
) -> dict[str, float]:
    """Return each arm's posterior probability of having the best mean; they sum to 1.

    Bernoulli rewards have uniform priors. Normal rewards have a spread of their own per arm (a
    normal-inverse-gamma posterior under a weak prior around the pooled mean).
    """
    rng = np.random.default_rng(seed)
    draw = _bernoulli if reward == "bernoulli" else _normal
    draws = draw(rng, list(rewards.values()))
    best = draws.argmax(axis=0) if direction == "increase" else draws.argmin(axis=0)
    counts = np.bincount(best, minlength=len(rewards))
    return {name: float(count / DRAWS) for name, count in zip(rewards, counts, strict=True)}


def whole_percents(shares: Mapping[str, float], floor: int) -> dict[str, int]:
    """Return shares as whole percents of at least ``floor`` that sum to 100.

    What is above the floors is shared by largest remainders, so that no arm is a percent or more
    away from its due.
    """
    free = 100 - floor * len(shares)
    total = sum(shares.values())
    exact = {name: free * share / total for name, share in shares.items()}
    percents = {name: floor + math.floor(value) for name, value in exact.items()}
    left = 100 - sum(percents.values())
    by_remainder = sorted(exact, key=lambda name: math.floor(exact[name]) - exact[name])
    for name in by_remainder[:left]:
        percents[name] += 1
    return percents


def seed_of(run_id: str, look: int) -> int:
    """Return a seed that a retry of the same look gets again."""
    return int.from_bytes(hashlib.sha256(f"{run_id}\0{look}".encode()).digest()[:8])


def _bernoulli(rng: np.random.Generator, rewards: Sequence[Rewards]) -> np.ndarray:
    return np.stack(
        [
            rng.beta(1 + max(arm.total, 0.0), 1 + max(arm.n - arm.total, 0.0), DRAWS)
            for arm in rewards
        ]
    )


def _normal(rng: np.random.Generator, rewards: Sequence[Rewards]) -> np.ndarray:
    n = sum(arm.n for arm in rewards)
    centre = sum(arm.total for arm in rewards) / n if n else 0.0
    squares = sum(arm.squares for arm in rewards)
    spread = max(squares / n - centre**2, 0.0) if n else 1.0
    return np.stack([_normal_arm(rng, arm, centre, spread or 1e-12) for arm in rewards])


def _normal_arm(rng: np.random.Generator, arm: Rewards, centre: float, spread: float) -> np.ndarray:
    """Draw means from a normal-inverse-gamma posterior (Murphy 2007, section 3)."""
    prior_n = 1 / _PRIOR_SPREAD**2
    mean = arm.total / arm.n if arm.n else centre
    within = max(arm.squares - arm.n * mean**2, 0.0)
    weight = prior_n + arm.n
    shape = 1 + arm.n / 2
    shift = prior_n * arm.n * (mean - centre) ** 2 / (2 * weight)
    scale = spread + within / 2 + shift
    variance = scale / rng.gamma(shape, 1.0, DRAWS)
    located = (prior_n * centre + arm.n * mean) / weight
    return rng.normal(located, np.sqrt(variance / weight))
