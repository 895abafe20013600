"""How experiments on live traffic ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from airflow_mlops_provider.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class ABTestVerdict(Record):
    """How an A/B test ended, with the evidence it was decided on."""

    endpoint: str
    champion: str
    candidate: str
    state: Literal["SUCCEEDED", "ROLLED_BACK", "ROLLBACK_FAILED", "PAUSED"]
    """Where the traffic is: all on the candidate, all on the champion, or as somebody left it."""
    finding: Literal["better", "worse", "inconclusive", "invalid", "stopped"]
    """``invalid``: the arms did not get the units they should have; ``stopped``: a guardrail, a
    person or a missing source ended the test."""
    reason: str
    looks: int
    figures: dict[str, Any]
    """Of the last look: units, means, the difference with its interval, e-values, coverage."""
    steps: list[dict[str, Any]]
    """Requests and errors of both sides, as of a ``RolloutVerdict``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditVerdict(Record):
    """How a bandit ended."""

    endpoint: str
    champion: str
    candidate: str
    """The deployment that was most probably the best at the last look."""
    state: Literal["SUCCEEDED", "ROLLED_BACK", "ROLLBACK_FAILED", "PAUSED"]
    """Where the traffic is: all on the candidate, all on the champion, or as somebody left it."""
    finding: Literal["best", "undecided", "stopped"]
    reason: str
    looks: int
    weights: dict[str, int]
    """Percent by deployment that was in force before the end."""
    probabilities: dict[str, float]
    """Posterior probability of being the best, at the last look."""
    rewards: dict[str, dict[str, float]]
    """Rewards and their mean, by deployment."""
