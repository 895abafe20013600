"""What was decided on retraining, and what came of it, in the workspace.

Each fact is a file of its own that one writer writes, under ``{workspace}/retraining/{name}/``:
``events/`` (which run an event belongs to), ``trainings/`` and ``skipped/`` (decisions, by run),
``outcomes/`` and ``answers/`` (by run). Nothing is changed in place but by the run it is about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fsspec.core import url_to_fs

from airflow_mlops_provider.records import (
    AlertAnswer,
    RetrainingDecision,
    RetrainingEvent,
    RetrainingOutcome,
)
from airflow_mlops_provider.steps.retrain.policy import Policy, Training, Weighed, weigh
from airflow_mlops_provider.workspace import (
    checked_name,
    exists,
    join,
    listing,
    read_json,
    write_json,
)

_SHOWN = 5


@dataclass(frozen=True)
class Ledger:
    """The ledger of one model's trainings."""

    workspace: str
    """fsspec URI of the workspace."""
    name: str

    def decision(self, run: str) -> RetrainingDecision | None:
        """Return what was decided for a run (``dag_id/run_id``), or None."""
        for folder in ("trainings", "skipped"):
            uri = self._uri(folder, _key(run))
            if exists(uri):
                return RetrainingDecision.from_xcom(read_json(uri))
        return None

    def trainings(self) -> list[Training]:
        """Return all trainings that were decided on, with their outcomes."""
        decisions = map(RetrainingDecision.from_xcom, self._read("trainings"))
        outcomes = {each.run: each.outcome for each in self.outcomes()}
        return [Training(each, outcomes.get(each.run)) for each in decisions]

    def skipped(self) -> list[RetrainingDecision]:
        """Return the decisions not to train."""
        return [RetrainingDecision.from_xcom(each) for each in self._read("skipped")]

    def outcomes(self) -> list[RetrainingOutcome]:
        """Return what came of trainings."""
        return [RetrainingOutcome.from_xcom(each) for each in self._read("outcomes")]

    def outcome(self, run: str) -> RetrainingOutcome | None:
        """Return what came of a run's training, or None."""
        uri = self._uri("outcomes", _key(run))
        return RetrainingOutcome.from_xcom(read_json(uri)) if exists(uri) else None

    def answers(self) -> list[AlertAnswer]:
        """Return what people decided."""
        return [AlertAnswer.from_xcom(each) for each in self._read("answers")]

    def claim(self, event: RetrainingEvent, run: str) -> str:
        """Return the run that an event belongs to: ``run``, unless another one was first.

        Of callers at the same time only one may be in here, see :func:`decide_retraining`.
        """
        uri = self._uri("events", event.id)
        if exists(uri):
            return str(read_json(uri)["run"])
        write_json(uri, {"run": run, "event": event.to_xcom()})
        return run

    def own(self, events: Sequence[RetrainingEvent], run: str) -> list[RetrainingEvent]:
        """Return the events that belong to ``run``, and make those its own that nobody has."""
        return [event for event in events if self.claim(event, run) == run]

    def keep_decision(self, decision: RetrainingDecision) -> None:
        """Keep a decision."""
        folder = "trainings" if decision.decision == "train" else "skipped"
        write_json(self._uri(folder, _key(decision.run)), decision.to_xcom())

    def keep_outcome(self, outcome: RetrainingOutcome) -> None:
        """Keep what came of a training; of a run that was cleared, what came last."""
        write_json(self._uri("outcomes", _key(outcome.run)), outcome.to_xcom())

    def keep_answer(self, answer: AlertAnswer) -> None:
        """Keep what a person decided."""
        write_json(self._uri("answers", _key(answer.run)), answer.to_xcom())

    def _uri(self, folder: str, key: str) -> str:
        name = checked_name(self.name, "name", "the retraining ledger")
        return join(self.workspace, "retraining", name, folder, f"{key}.json")

    def _read(self, folder: str) -> list[object]:
        pattern = self._uri(folder, "*")
        fs = url_to_fs(pattern)[0]
        return [read_json(fs.unstrip_protocol(path)) for path in listing(pattern)]


def ledgers(workspace: str) -> list[Ledger]:
    """Return all ledgers of a workspace."""
    folders = listing(join(workspace, "retraining", "*"))
    return [Ledger(workspace, folder.rpartition("/")[2]) for folder in folders]


def decide_retraining(
    ledger: Ledger,
    run: str,
    events: Sequence[RetrainingEvent],
    policy: Policy,
    now: datetime,
) -> RetrainingDecision:
    """Decide whether a run trains, and keep that; asked again, give what was decided.

    An event that another run has decided on counts no more. Callers hold a lock, so that two runs
    do not both find that there was no training yet.

    Args:
        ledger: Where it is kept.
        run: ``dag_id/run_id``.
        events: What started the run, at least one.
        policy: How much is too much.
        now: The time, with a time zone.
    """
    if known := ledger.decision(run):
        return known
    if mine := ledger.own(events, run):
        weighed = weigh(mine, ledger.trainings(), policy, now)
    else:
        weighed = _told_before(events[0], ledger.claim(events[0], run))
    decision = RetrainingDecision(
        name=ledger.name,
        run=run,
        decision=weighed.decision,
        event=weighed.event,
        reason=weighed.reason,
        decided_at=now.isoformat(),
        events=list(events[:_SHOWN]),
        n_events=len(events),
        counted=weighed.counted,
    )
    ledger.keep_decision(decision)
    return decision


def _told_before(event: RetrainingEvent, owner: str) -> Weighed:
    return Weighed("skip", event, f"told before: run {owner} decided on it", {})


def _key(run: str) -> str:
    return hashlib.sha256(run.encode()).hexdigest()[:32]
