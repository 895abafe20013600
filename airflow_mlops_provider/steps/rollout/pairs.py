"""What mirrored traffic says: the champion's and the shadow's answers to the same requests.

The judgement needs no weights and no looks: each pair is its own comparison, so the counts since
the phase began are all there is. Disagreements are held to a bound by Robbins' mixture
(:class:`~airflow_mlops_provider.steps.rollout.sequential.ShareTest`), failures by the e-process of
the canary at a share of one half (McNemar's test, sequentially), latency and scores by the
confidence sequence of paired differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.steps.rollout.sequential import (
    RateTest,
    Sample,
    ShareTest,
    paired_bounds,
)

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.release import ReleasePlan, ShadowRules

_TESTS = 4
"""Failures, disagreement, latency and shift of the scores share ``alpha``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Counts of requests that both sides got; of a difference, shadow minus champion."""

    pairs: int = 0
    """Answered by both."""
    disagreements: int = 0
    scored: int = 0
    """Pairs of numeric scores."""
    difference_sum: float = 0.0
    difference_sq_sum: float = 0.0
    log_latency_sum: float = 0.0
    """Sum of the differences of log latency."""
    log_latency_sq_sum: float = 0.0
    champion_failed: int = 0
    """Answered by the shadow alone."""
    shadow_failed: int = 0
    """Answered by the champion alone."""

    @classmethod
    def read(cls, counted: Mapping[str, Any]) -> Pairs:
        """Take what matters from what the target reports.

        Raises:
            KeyError, TypeError, ValueError: a number is missing or not finite.
        """
        found = cls(**{name: counted[name] for name in cls.__dataclass_fields__})
        if not all(math.isfinite(value) for value in asdict(found).values()):
            raise ValueError(f"counts of pairs that are no finite numbers: {found}")
        return found

    def since(self, before: Pairs) -> Pairs:
        """Return what was counted after ``before``; a restarted count began at zero."""
        return self if self.pairs < before.pairs else self._combined(before, -1)

    def plus(self, other: Pairs) -> Pairs:
        """Return the sum of both."""
        return self._combined(other, 1)

    @property
    def scores(self) -> Sample:
        """The differences of the scores."""
        return Sample(n=self.scored, total=self.difference_sum, squares=self.difference_sq_sum)

    @property
    def latency(self) -> Sample:
        """The differences of log latency."""
        return Sample(n=self.pairs, total=self.log_latency_sum, squares=self.log_latency_sq_sum)

    def _combined(self, other: Pairs, sign: int) -> Pairs:
        theirs = asdict(other)
        return Pairs(**{name: value + sign * theirs[name] for name, value in asdict(self).items()})


def findings(
    pairs: Pairs, plan: ReleasePlan, rules: ShadowRules, typical_ms: float
) -> list[tuple[str, str]]:
    """Return what is proven against the candidate, as (test, reason).

    Args:
        pairs: The counts since the phase began.
        plan: The knobs of the judgement.
        rules: Those of the shadow phase.
        typical_ms: The champion's typical latency.
    """
    alpha = plan.alpha / _TESTS
    found = {}
    if _failures(pairs, plan).rejects(alpha):
        found["errors"] = (
            f"it fails {pairs.shadow_failed} requests that the champion answers, and answers "
            f"{pairs.champion_failed} that the champion fails"
        )
    low, _ = _disagreement(pairs).bounds(alpha)
    if low > rules.max_disagreement:
        found["disagreement"] = (
            f"it disagrees on at least {low:.1%} of the requests, {rules.max_disagreement:.1%} "
            "are allowed"
        )
    slower, _ = paired_bounds(pairs.latency, alpha)
    if slower is not None and plan.too_slow(slower, typical_ms):
        found["latency"] = (
            f"it is at least {math.expm1(slower):.0%} slower than the champion, "
            f"{plan.latency_margin:.0%} is allowed"
        )
    bottom, top = paired_bounds(pairs.scores, alpha / 2)
    shift = rules.allowed_shift
    if bottom is not None and top is not None and (bottom > shift or top < -shift):
        found["shift"] = (
            f"its scores are shifted by {pairs.scores.mean:+.4g} on average, {shift:g} is allowed"
        )
    return list(found.items())


def passes(pairs: Pairs, plan: ReleasePlan, rules: ShadowRules) -> bool:
    """Tell whether the disagreement is proven small, and nothing else leans the other way."""
    alpha = plan.alpha / _TESTS
    open_questions = {
        "disagreement": _disagreement(pairs).bounds(alpha)[1] > rules.max_disagreement,
        "errors": _failures(pairs, plan).leans(alpha),
        "shift": pairs.scored > 0 and abs(pairs.scores.mean) > rules.allowed_shift,
    }
    settled = not any(
        asked for test, asked in open_questions.items() if test not in plan.dry_run_metrics
    )
    return settled and pairs.pairs >= rules.min_pairs


def summary(pairs: Pairs, alpha: float = 0.05) -> dict[str, Any]:
    """Return the counts and a 95 % confidence sequence as a few JSON numbers."""
    low, high = _disagreement(pairs).bounds(alpha)
    return {
        "pairs": pairs.pairs,
        "disagreements": pairs.disagreements,
        "disagreement_low": round(low, 5),
        "disagreement_high": round(high, 5),
        "champion_failed": pairs.champion_failed,
        "shadow_failed": pairs.shadow_failed,
        "score_shift": float(f"{pairs.scores.mean:.4g}") if pairs.scored else None,
        "latency_ratio": round(math.exp(pairs.latency.mean), 4) if pairs.pairs else None,
    }


def _failures(pairs: Pairs, plan: ReleasePlan) -> RateTest:
    return RateTest(margin=plan.margin).updated(
        candidate_events=pairs.shadow_failed, champion_events=pairs.champion_failed, share=0.5
    )


def _disagreement(pairs: Pairs) -> ShareTest:
    return ShareTest(n=pairs.pairs, events=pairs.disagreements)
