"""Where the release of a model version stands, between two ticks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from airflow_mlops_provider.records import RolloutVerdict
from airflow_mlops_provider.steps.rollout import pairs
from airflow_mlops_provider.steps.rollout.evidence import Evidence  # noqa: TC001 - a field type
from airflow_mlops_provider.steps.rollout.kinds import ENDED, DrivenState

State = Literal[
    "PENDING",
    "SMOKE",
    "SHADOW",
    "STEP",
    "AWAIT_APPROVAL",
    "PAUSED",
    "PROMOTING",
    "BAKING",
    "KEEPING",
    "RETIRING",
    "CLOSING",
    "SUCCEEDED",
    "ROLLING_BACK",
    "ROLLED_BACK",
    "ROLLBACK_FAILED",
]
_FILED = frozenset({"SHADOW", "STEP", "AWAIT_APPROVAL", "BAKING", "KEEPING"})
"""States whose evidence is filed when they end."""


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
    mirror_percent: int | None = None
    """The percent that is mirrored to the candidate; None while it is nobody's business."""
    shield: bool = False
    """Whether users are shielded from the candidate's failures while both have traffic."""
    approved_by: str = ""
    """Who approved of leaving AWAIT_APPROVAL; empty until somebody did."""
    evidence: Evidence
    dry_run: dict[str, str] = field(default_factory=dict)
    """What tests that must not act would have acted on."""
    steps: tuple[dict[str, Any], ...] = ()
    """The evidence of each step that is over."""

    @property
    def identity(self) -> str:
        """See :attr:`ReleasePlan.identity`."""
        return f"{self.kind} {self.candidate} {self.model_uri}"

    @property
    def deployments(self) -> dict[str, str]:
        """The candidate's."""
        return {self.candidate: self.model_uri}

    @property
    def superfluous(self) -> frozenset[str]:
        """The old version, once it was kept long enough."""
        return frozenset({self.champion} if self.state == "RETIRING" else ())

    @property
    def traffic(self) -> dict[str, int]:
        """The traffic that this state wants."""
        return self._split(self.weight)

    @property
    def moves_traffic(self) -> bool:
        """A shadow rollout leaves the traffic to whoever else moves it."""
        return self.kind != "shadow"

    @property
    def mirror_traffic(self) -> dict[str, int] | None:
        """The mirrored traffic that this state wants; None leaves it as it is."""
        if self.mirror_percent is None:
            return None
        return {self.candidate: self.mirror_percent} if self.state == "SHADOW" else {}

    @property
    def settings(self) -> dict[str, Any]:
        """What else goes with each write of traffic."""
        return {"shield": 0 < self.weight < 100} if self.shield else {}

    @property
    def fallback(self) -> dict[str, int] | None:
        """The champion, for as long as it is there to fall back to."""
        if not self.moves_traffic:
            return None
        final = self.state == "RETIRING" or (self.state == "SUCCEEDED" and self.weight == 100)
        return {self.candidate if final else self.champion: 100}

    @property
    def compares_pairs(self) -> bool:
        """Whether a look at pairs of answers would be of use now."""
        return self.state in ("SMOKE", "SHADOW")

    def expects(self, traffic: Mapping[str, int]) -> bool:
        """Tell whether ``traffic`` is what this rollout set, now or just before."""
        actual = routed(traffic)
        return actual in (self._split(self.weight), self._split(self.previous_weight))

    def settled(self) -> RolloutState:
        """Forget the weight before: from now on it is somebody else who goes back to it."""
        return replace(self, previous_weight=self.weight)

    def entered(self, state: State, now: float, *, weight: int, reason: str = "") -> RolloutState:
        """Go on to another state or step, filing the evidence of the one that ends."""
        return replace(
            self,
            state=state,
            weight=weight,
            previous_weight=self.weight,
            since=now,
            reason=reason,
            approved_by="",
            evidence=self.evidence.next_step(),
            steps=(*self.steps, self._filed(now)) if self.state in _FILED else self.steps,
        )

    def verdict(self, endpoint: str) -> RolloutVerdict:
        """Return the record of a rollout that ended.

        Raises:
            RecordError: it has not ended.
        """
        return RolloutVerdict.from_xcom(
            {
                "endpoint": endpoint,
                "kind": self.kind,
                "champion": self.champion,
                "candidate": self.candidate,
                "state": self.state,
                "reason": self.reason,
                "steps": list(self.steps),
                "dry_run": self.dry_run,
            }
        )

    def figures(self) -> dict[str, Any]:
        """Return the counts of the step and what the tests say."""
        if self.state in ("SHADOW", "CLOSING"):
            return {**self.evidence.summary(), **pairs.summary(self.evidence.pairs)}
        return self.evidence.summary()

    def describe(self) -> str:
        """Say in a line where the rollout stands."""
        line = f"{self.state}, {self.candidate} at {self.weight} %"
        if self.reason:
            return f"{line}: {self.reason}"
        seen = self.figures()
        if self.state == "SHADOW":
            return (
                f"{line}: {seen['pairs']} pairs of answers, {seen['disagreements']} of them "
                f"disagree, it failed {seen['shadow_failed']} that {self.champion} answered"
            )
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
            **self.figures(),
            **({"approved_by": self.approved_by} if self.approved_by else {}),
        }

    def _split(self, weight: int) -> dict[str, int]:
        return routed({self.champion: 100 - weight, self.candidate: weight})


def routed(traffic: Mapping[str, int]) -> dict[str, int]:
    """Return ``traffic`` without the deployments that get none."""
    return {name: percent for name, percent in traffic.items() if percent}


def is_running(document: Mapping[str, Any] | None) -> bool:
    """Tell whether a document describes a rollout that somebody drives."""
    return document is not None and document.get("state") not in ENDED
