"""Where a bandit stands, between two ticks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_mlops_provider.records import BanditVerdict
from airflow_mlops_provider.steps.rollout.kinds import DrivenState
from airflow_mlops_provider.steps.rollout.state import routed


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditState(DrivenState):
    """One moment of a bandit."""

    kind: str = "bandit"
    arms: tuple[str, ...]
    models: dict[str, str]
    """What each arm served when the bandit began."""
    weights: dict[str, int]
    """Percent by arm that is wanted now."""
    previous_weights: dict[str, int]
    started: float | None = None
    look_due: float | None = None
    looking: bool = False
    looks: int = 0
    failed_looks: int = 0
    best: str = ""
    streak: int = 0
    """Looks in a row at which ``best`` was clearly so."""
    finding: str = "stopped"
    probabilities: dict[str, float] = field(default_factory=dict)
    rewards: dict[str, dict[str, float]] = field(default_factory=dict)
    base: dict[str, tuple[int, int]] | None = None
    """Requests and errors of each arm when the bandit began."""

    @property
    def identity(self) -> str:
        """See :attr:`BanditPlan.identity`."""
        return f"{self.kind} {' '.join(self.arms)}"

    @property
    def for_worker(self) -> bool:
        """Whether a look is due."""
        return self.looking and self.state == "STEP"

    @property
    def deployments(self) -> dict[str, str]:
        """The arms, which exist already."""
        return self.models

    @property
    def traffic(self) -> dict[str, int]:
        """The weights."""
        return routed(self.weights)

    @property
    def fallback(self) -> dict[str, int]:
        """All of it on the champion."""
        return {self.champion: 100}

    def figures(self) -> dict[str, Any]:
        """Return weights, probabilities and rewards by arm."""
        return {
            "weights": self.traffic,
            "probabilities": self.probabilities,
            "mean_rewards": {name: each["mean"] for name, each in self.rewards.items()},
            "rewards": {name: each["n"] for name, each in self.rewards.items()},
        }

    def describe(self) -> str:
        """Say in a line where the bandit stands."""
        line = f"{self.state} at {self.traffic}, {self.looks} looks"
        if self.reason:
            return f"{line}: {self.reason}"
        return f"{line}, best by {self.probabilities}" if self.probabilities else line

    def verdict(self, endpoint: str) -> BanditVerdict:
        """Return the record of a bandit that ended."""
        return BanditVerdict.from_xcom(
            {
                "endpoint": endpoint,
                "champion": self.champion,
                "candidate": self.best or self.candidate,
                "state": self.state,
                "finding": self.finding,
                "reason": self.reason,
                "looks": self.looks,
                "weights": self.previous_weights,
                "probabilities": self.probabilities,
                "rewards": self.rewards,
            }
        )

    def moved(self, state: str, weights: Mapping[str, int], now: float, reason: str) -> BanditState:
        """Go on to another state, or to other weights."""
        return replace(
            self,
            state=state,
            weights=dict(weights),
            previous_weights=self.weights,
            since=now,
            reason=reason,
            looking=False,
        )
