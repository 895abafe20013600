"""What a training was worth."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from airflow_mlops_provider.records import (
    GateVerdict,
    ModelVersionRef,
    RetrainingDecision,
    RetrainingOutcome,
)
from airflow_mlops_provider.steps.register import CHAMPION

if TYPE_CHECKING:
    from airflow_mlops_provider.records.retraining import OutcomeName


def outcome_of(
    decision: RetrainingDecision,
    verdict: GateVerdict | None,
    version: ModelVersionRef | None,
    *,
    failed: bool,
    now: datetime,
) -> RetrainingOutcome:
    """Say what came of a training.

    ``promoted``: the version is champion; ``registered``: it waits for its delivery;
    ``not_better`` and ``refused``: so said the gate; ``failed``: a task before that did;
    ``stopped``: none did, there was nothing to learn from.

    Args:
        decision: To train.
        verdict: Of the gate; None if it was not reached.
        version: What was registered; None if nothing was.
        failed: Whether a task of the run failed.
        now: The time.
    """
    name, detail = _told(verdict, version, failed=failed)
    return RetrainingOutcome(
        name=decision.name,
        run=decision.run,
        outcome=name,
        detail=detail,
        recorded_at=now.isoformat(),
        model_uri=version.model_uri if version else None,
    )


def _told(
    verdict: GateVerdict | None, version: ModelVersionRef | None, *, failed: bool
) -> tuple[OutcomeName, str]:
    if version is not None:
        name: OutcomeName = "promoted" if CHAMPION in version.aliases else "registered"
        return name, f"version {version.version} of {version.name}"
    if verdict is None:
        return ("failed" if failed else "stopped"), "the gate was not reached"
    if verdict.outcome == "promote":
        return "failed", "the gate said promote, and no version was registered"
    broken = "; ".join(reason.detail for reason in verdict.reasons if not reason.passed)
    return ("refused" if verdict.outcome == "refused" else "not_better"), broken
