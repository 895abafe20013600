"""Where the release of a model version stands, between two ticks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from airflow_mlops_provider.records import RolloutVerdict
from airflow_mlops_provider.steps.rollout.evidence import Evidence  # noqa: TC001 - a field type
from airflow_mlops_provider.steps.rollout.kinds import ENDED, DrivenState

State = Literal[
    "PENDING",
    "SMOKE",
    "STEP",
    "PAUSED",
    "PROMOTING",
    "BAKING",
    "SUCCEEDED",
    "ROLLING_BACK",
    "ROLLED_BACK",
    "ROLLBACK_FAILED",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutState(DrivenState):
    """One moment of a release; JSON values only."""

    kind: str = "canary"
    state: State = "PENDING"
    model_uri: str
    weight: int = 0
    """The candidate's percent that is wanted now."""
    previous_weight: int = 0
    """The percent before, which is still in force until the wanted one is written."""
    evidence: Evidence
    steps: tuple[dict[str, Any], ...] = ()
    """The evidence of each step that is over."""

    @property
    def identity(self) -> str:
        """See :attr:`CanaryPlan.identity`."""
        return f"{self.kind} {self.candidate} {self.model_uri}"

    @property
    def deployments(self) -> dict[str, str]:
        """The candidate's."""
        return {self.candidate: self.model_uri}

    @property
    def traffic(self) -> dict[str, int]:
        """The traffic that this state wants."""
        return self._split(self.weight)

    def expects(self, traffic: Mapping[str, int]) -> bool:
        """Tell whether ``traffic`` is what this rollout set, now or just before."""
        actual = routed(traffic)
        return actual in (self._split(self.weight), self._split(self.previous_weight))

    def entered(self, state: State, now: float, *, weight: int, reason: str = "") -> RolloutState:
        """Go on to another state or step, filing the evidence of the one that ends."""
        return replace(
            self,
            state=state,
            weight=weight,
            previous_weight=self.weight,
            since=now,
            reason=reason,
            evidence=self.evidence.next_step(),
            steps=self.steps if self.state in _UNWATCHED else (*self.steps, self._filed(now)),
        )

    def verdict(self, endpoint: str) -> RolloutVerdict:
        """Return the record of a rollout that ended.

        Raises:
            RecordError: it has not ended.
        """
        return RolloutVerdict.from_xcom(
            {
                "endpoint": endpoint,
                "champion": self.champion,
                "candidate": self.candidate,
                "state": self.state,
                "reason": self.reason,
                "steps": list(self.steps),
            }
        )

    def figures(self) -> dict[str, Any]:
        """Return the counts of the step and what the tests say."""
        return self.evidence.summary()

    def describe(self) -> str:
        """Say in a line where the rollout stands."""
        line = f"{self.state}, {self.candidate} at {self.weight} %"
        if self.reason:
            return f"{line}: {self.reason}"
        seen = self.evidence.summary()
        return (
            f"{line}: it answered {seen['candidate_requests']} requests with "
            f"{seen['candidate_errors']} errors, {self.champion} {seen['champion_requests']} with "
            f"{seen['champion_errors']}; e-value {seen['error_e_value']:g}"
        )

    def _filed(self, now: float) -> dict[str, Any]:
        return {
            "state": self.state,
            "weight": self.weight,
            "seconds": round(now - self.since, 3),
            **self.evidence.summary(),
        }

    def _split(self, weight: int) -> dict[str, int]:
        return routed({self.champion: 100 - weight, self.candidate: weight})


_UNWATCHED = frozenset({"PENDING", "SMOKE", "PROMOTING", "ROLLING_BACK", *ENDED})
"""States in which no evidence is gathered for a step."""


def routed(traffic: Mapping[str, int]) -> dict[str, int]:
    """Return ``traffic`` without the deployments that get none."""
    return {name: percent for name, percent in traffic.items() if percent}


def is_running(document: Mapping[str, Any] | None) -> bool:
    """Tell whether a document describes a rollout that somebody drives."""
    return document is not None and document.get("state") not in ENDED
