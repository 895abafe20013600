"""Where a rollout stands: the document that is kept on the serving host between two ticks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from airflow_mlops_provider.records import Record, RolloutVerdict
from airflow_mlops_provider.steps.rollout.evidence import Evidence  # noqa: TC001 - a field type

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
ENDED: frozenset[str] = frozenset({"PAUSED", "SUCCEEDED", "ROLLED_BACK", "ROLLBACK_FAILED"})
"""States that only a person or a new rollout moves on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutState(Record):
    """One moment of a rollout; JSON values only."""

    state: State = "PENDING"
    candidate: str
    model_uri: str
    champion: str
    weight: int = 0
    """The candidate's percent that is wanted now."""
    previous_weight: int = 0
    """The percent before, which is still in force until the wanted one is written."""
    since: float
    """When this state or step began, in seconds since the epoch."""
    outage_since: float | None = None
    """Since when counters have been missing."""
    reason: str = ""
    evidence: Evidence
    steps: tuple[dict[str, Any], ...] = ()
    """The evidence of each step that is over."""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> RolloutState:
        """Read what the host kept, leaving out what the host itself added."""
        known = {item.name for item in fields(cls)}
        return cls.from_xcom({key: value for key, value in document.items() if key in known})

    @property
    def ended(self) -> bool:
        """Whether the driver has nothing left to do."""
        return self.state in ENDED

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
