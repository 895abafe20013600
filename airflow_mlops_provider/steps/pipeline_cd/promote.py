"""Move the ref of an environment to a version, and back; never over somebody else's move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import PipelineStageError, RegistryConflictError
from airflow_mlops_provider.records import (
    PipelineEnvironment,
    PipelinePromotion,
    PublishedPipeline,
)

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.pipeline_cd.ledger import Ledger, Seen


def promote_pipeline(
    ledger: Ledger,
    environment: PipelineEnvironment,
    version: PublishedPipeline,
    *,
    by: str,
    at: str,
    expected: str | None = None,
    known_errors: Sequence[str] = (),
) -> PipelinePromotion:
    """Move the environment's ref to a version's commit, by compare-and-set.

    A version that the ref is at already, by the ledger, is left there; its entry is returned.
    A ref without a ledger is taken over from where it is.

    Args:
        ledger: Of this environment.
        environment: The environment.
        version: What to promote.
        by: The run that promotes it.
        at: Time of the move, ISO 8601.
        expected: Where the ref is known to have been moved by hand.
        known_errors: DAG files that cannot be imported there before the move.

    Raises:
        RegistryConflictError: the ref was moved by hand since, or by a rival just now.
        DataError: no repository has the commit.
        ServiceError: the repository does not answer, or does not let us push.
    """
    seen = ledger.look()
    if seen.entry and seen.entry.commit == version.commit == seen.commit:
        return seen.entry
    _require_untouched(ledger, environment, seen, expected)
    ledger.fetch(version.commit, version.repository)
    entry = PipelinePromotion(
        environment=environment.name,
        kind="promotion",
        commit=version.commit,
        previous=seen.commit,
        by=by,
        at=at,
        known_errors=list(known_errors),
    )
    return _moved(ledger, environment, seen, entry)


def roll_back_pipeline(
    ledger: Ledger,
    environment: PipelineEnvironment,
    version: PublishedPipeline,
    *,
    by: str,
    at: str,
) -> PipelinePromotion | None:
    """Move the ref back to where it was before this run promoted a version.

    What was rolled back already is left; its entry is returned. None if the last move was not
    this run's promotion of the version: then there is nothing of ours to take back.

    Raises:
        RegistryConflictError: the ref was moved by hand since, or by a rival just now.
        PipelineStageError: there was no earlier version.
        ServiceError: the repository does not answer, or does not let us push.
    """
    seen = ledger.look()
    last = seen.entry
    if last is None or last.by != by:
        return None
    if last.kind == "rollback":
        return last if last.previous == version.commit else None
    if last.commit != version.commit or last.previous == last.commit:
        return None
    _require_untouched(ledger, environment, seen, None)
    if last.previous is None:
        raise PipelineStageError(
            f"Commit {last.commit[:12]} failed in {environment.name}, whose ref {ledger.ref} it "
            "was the first of: there is no earlier version to roll back to. Promote one that works."
        )
    ledger.fetch(last.previous, version.repository)
    entry = PipelinePromotion(
        environment=environment.name,
        kind="rollback",
        commit=last.previous,
        previous=last.commit,
        by=by,
        at=at,
    )
    return _moved(ledger, environment, seen, entry)


def _require_untouched(
    ledger: Ledger, environment: PipelineEnvironment, seen: Seen, expected: str | None
) -> None:
    if expected is not None:
        known, why = expected, "the `expected` parameter says"
    elif seen.entry is not None:
        known, why = seen.entry.commit, f"the {seen.entry.kind} by {seen.entry.by} left it"
    else:
        return
    if seen.commit != known:
        now = f"at {ledger.describe(seen.commit)}" if seen.commit else "gone"
        raise RegistryConflictError(
            f"{ledger.ref} of {environment.repository}, which {environment.name} follows, was "
            f"moved by hand: it is {now}; expected {known[:12]}, where {why}. It was left there. "
            "Move it back, or give the commit it is at as `expected`."
        )


def _moved(
    ledger: Ledger, environment: PipelineEnvironment, seen: Seen, entry: PipelinePromotion
) -> PipelinePromotion:
    if kept := ledger.move(seen, entry):
        return kept
    now = ledger.look()
    last = now.entry
    who = f"the {last.kind} of {last.commit[:12]} by {last.by}" if last else "no move"
    place = ledger.describe(now.commit) if now.commit else "no commit"
    raise RegistryConflictError(
        f"{ledger.ref}, which {environment.name} follows, was moved while the {entry.kind} of "
        f"{entry.commit[:12]} was under way: it is at {place}; the last in its ledger is {who}. "
        "Wait until that has ended, and run this again."
    )
