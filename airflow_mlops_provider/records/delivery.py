"""A model in service: endpoints, rollouts, predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_mlops_provider.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRef(Record):
    """An endpoint of a serving target and how its traffic is split."""

    endpoint: str
    url: str
    """Where clients send ``/invocations``."""
    deployments: dict[str, str]
    """Deployment name to the model URI it serves."""
    traffic: dict[str, int]
    """Percent by deployment; sums to 100, or empty when nothing is routed yet."""
    mirror_traffic: dict[str, int]
    generation: int
    """Grows with each change; a write names the generation it was decided on."""
    sticky: bool = False
    """Whether an entity stays on its side."""
    shield: bool = False
    """Whether what one deployment fails is asked of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutVerdict(Record):
    """How a rollout ended, with the evidence it was decided on."""

    endpoint: str
    champion: str
    candidate: str
    state: Literal["SUCCEEDED", "ROLLED_BACK", "ROLLBACK_FAILED", "PAUSED"]
    reason: str
    steps: list[dict[str, Any]]
    """One entry a step: ``state``, ``weight``, ``seconds``, requests and errors of both sides."""
    kind: str = "canary"
    dry_run: dict[str, str] = field(default_factory=dict)
    """What the tests that must not act would have acted on, by test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionBatchRef(Record):
    """Predictions written or collected as one Parquet file."""

    uri: str
    n_rows: int
    file_hash: str
    model_versions: list[str]
    window_start: str | None = None
    window_end: str | None = None
    n_unreadable: int = 0
    """Lines of the prediction log that a killed process left torn; they are not in the file."""
