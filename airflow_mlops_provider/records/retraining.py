"""Why a model is trained again or not, what came of it, and what people answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_mlops_provider.records.base import Record
from airflow_mlops_provider.records.evaluation import GateReason

EventKind = Literal["demand", "schedule", "new_data", "performance", "drift"]
OutcomeName = Literal["promoted", "registered", "not_better", "refused", "failed", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingEvent(Record):
    """Something that asks for a training: one of the five triggers of Google's MLOps level 1."""

    id: str
    """The same for the same event, however often it is told."""
    kind: EventKind
    at: str
    """When it happened, ISO 8601 with a time zone."""
    source: str
    """A person, a schedule, or an asset and the task that emitted its event."""
    by: str | None = None
    """The person who asks; None for what happens by itself."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """What is known of it, cut to at most about 4 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingDecision(Record):
    """Whether a run trains, on which event, and what was counted to decide so."""

    name: str
    """Of the ledger that keeps it."""
    run: str
    """``dag_id/run_id``."""
    decision: Literal["train", "skip"]
    event: RetrainingEvent
    """The event that decided."""
    reason: str
    decided_at: str
    events: list[RetrainingEvent] = field(default_factory=list)
    """All that started the run, at most 5."""
    n_events: int = 1
    counted: dict[str, Any] = field(default_factory=dict)
    """``trainings`` in the last ``budget_seconds``, of at most ``budget``; ``last_training`` of
    the event's kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingOutcome(Record):
    """What a training was worth."""

    name: str
    run: str
    outcome: OutcomeName
    """``not_better`` and ``refused`` are non-events: the champion goes on. ``stopped``: nothing
    was trained, and nothing failed."""
    detail: str
    recorded_at: str
    model_uri: str | None = None
    """The version that was registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertAnswer(Record):
    """What a person decided on an alert, and on what."""

    name: str
    run: str
    answer: str
    by: str
    at: str
    reason: str
    findings: list[str] = field(default_factory=list)
    """What the person was shown."""
    event: RetrainingEvent | None = None
    """What a training is asked for with, if the answer is to train."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackVerdict(Record):
    """Whether a degraded champion gave way to its predecessor, with the evidence."""

    outcome: Literal["rolled_back", "kept"]
    champion_uri: str
    previous_uri: str
    reasons: list[GateReason]
    endpoint: str | None = None
    """Whose traffic was moved."""
