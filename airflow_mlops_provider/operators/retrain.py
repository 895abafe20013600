"""Decide whether a run trains at all, and keep what its training was worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import SkipMixin
from airflow.sdk.log import redact  # type: ignore[attr-defined]  # it has no other public place

from airflow_mlops_provider.links import RetrainingLink, retraining_url
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.pipeline import any_failed
from airflow_mlops_provider.records import (
    GateVerdict,
    ModelVersionRef,
    RetrainingDecision,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import RetrainingEvent
    from airflow_mlops_provider.steps.retrain.policy import Policy

_BY_PEOPLE = ("manual", "asset_materialization")
_BY_ASSETS = "asset_triggered"
_MAX_LATE = 10


class DecideRetrainingOperator(MlopsOperator, SkipMixin):
    """Find the event that started this run, and decide whether it is worth a training.

    Gives a ``RetrainingDecision``, the first task of a training DAG. A run that was triggered by
    hand is *demand*, a scheduled one *schedule*; of a run that assets started, those of
    ``mlops-drift://`` and ``mlops-alert://`` are *drift*, those of ``mlops-performance://``
    *performance* and all others *new data*. ``skip`` skips what is downstream, save teardowns, and
    the run ends well. Decisions are kept in the ledger ``{workspace}/retraining/{name}/``, and a
    retry or a cleared task gives what was decided before.

    Airflow starts one run for events that come at the same moment and shows it only the first; name
    the assets as ``inlets`` too, and this task looks for the others.

    Args:
        name: Of the ledger; trainings of one model share one.
        debounce_seconds: Events less than this apart are one.
        cooldown_seconds: How long after a training no other event of its kind trains: by kind
            (``performance``, ``drift``, ``new_data``, ``schedule``), or one number for the first
            three. A person who asks always passes.
        budget: How many trainings a period may have; None for any number.
        budget_seconds: The period: the last so many seconds.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "name",
        "debounce_seconds",
        "cooldown_seconds",
        "budget",
        "budget_seconds",
    )
    operator_extra_links = (*MlopsOperator.operator_extra_links, RetrainingLink())

    def __init__(
        self,
        *,
        name: str,
        debounce_seconds: float = 300,
        cooldown_seconds: float | dict[str, float] = 86_400,
        budget: int | None = None,
        budget_seconds: float = 30 * 86_400,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.debounce_seconds = debounce_seconds
        self.cooldown_seconds = cooldown_seconds
        self.budget = budget
        self.budget_seconds = budget_seconds

    def execute(self, context: Context) -> dict[str, Any]:
        """Decide, tell why, and act on it."""
        from airflow_mlops_provider.steps.promotion_lock import promotion_lock
        from airflow_mlops_provider.steps.retrain.ledger import Ledger, decide_retraining
        from airflow_mlops_provider.steps.retrain.note import log_decision, told

        with self.tracked_run(context) as run:
            ledger = Ledger(self.workspace_uri, self.name)
            events, policy = started_by(context), self._policy()
            with promotion_lock(run.client, f"retraining-{self.name}"):
                decision = decide_retraining(
                    ledger, run_name(context), events, policy, datetime.now(UTC)
                )
            log_decision(run, decision)
        ti = context["ti"]
        ti.xcom_push(key=RetrainingLink.xcom_key, value=retraining_url(ti.dag_id, ti.run_id))
        self.log.info("%s", told(decision))
        # Skipping ends execute() early, so the decision is handed over first.
        ti.xcom_push(key="return_value", value=decision.to_xcom())
        if decision.decision == "skip":
            followers = self.get_direct_relatives(upstream=False)
            self.skip(ti, [task for task in followers if not task.is_teardown])
        return decision.to_xcom()

    def _policy(self) -> Policy:
        from airflow_mlops_provider.steps.retrain.policy import Policy

        cooldown = self.cooldown_seconds
        return Policy.of(
            float(self.debounce_seconds),
            cooldown if isinstance(cooldown, dict) else float(cooldown),
            None if self.budget is None else int(self.budget),
            float(self.budget_seconds),
        )


class RecordRetrainingOperator(MlopsOperator):
    """Keep what a training was worth. Gives a ``RetrainingOutcome``; None if nothing was trained.

    Make it the teardown of :class:`DecideRetrainingOperator`, so that it runs however the training
    ends and hides no failure.

    Args:
        decision: The ``RetrainingDecision`` of this run.
        verdict: The ``GateVerdict``; None if the gate was not reached.
        model_version: The ``ModelVersionRef`` that was registered; None if none was.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "decision",
        "verdict",
        "model_version",
    )

    def __init__(
        self, *, decision: Any, verdict: Any = None, model_version: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.decision = decision
        self.verdict = verdict
        self.model_version = model_version

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Keep the outcome in the ledger and in MLflow."""
        from airflow_mlops_provider.steps.retrain.ledger import Ledger
        from airflow_mlops_provider.steps.retrain.note import log_outcome
        from airflow_mlops_provider.steps.retrain.outcome import outcome_of

        if not self.decision:
            self.log.info("Nothing was decided, so nothing was trained")
            return None
        decision = RetrainingDecision.from_xcom(self.decision)
        if decision.decision == "skip":
            self.log.info("Nothing was trained: %s", decision.reason)
            return None
        with self.tracked_run(context) as run:
            outcome = outcome_of(
                decision,
                GateVerdict.from_xcom(self.verdict) if self.verdict else None,
                ModelVersionRef.from_xcom(self.model_version) if self.model_version else None,
                failed=any_failed(context),
                now=datetime.now(UTC),
            )
            Ledger(self.workspace_uri, decision.name).keep_outcome(outcome)
            log_outcome(run, outcome)
        self.log.info("Training %s: %s", outcome.outcome, outcome.detail)
        return outcome.to_xcom()


def run_name(context: Context) -> str:
    """Return the name of a DAG run in ledgers: ``dag_id/run_id``."""
    return f"{context['ti'].dag_id}/{context['ti'].run_id}"


def started_by(context: Context) -> list[RetrainingEvent]:
    """Return what started a DAG run, and events of the task's inlets that came since."""
    from airflow_mlops_provider.steps.retrain import events

    dag_run: Any = context["dag_run"]
    kind = _kind(dag_run)
    conf: Any = redact(dag_run.conf or {}, "conf")
    name = run_name(context)
    at = _utc(dag_run.run_after)
    found = emitted(context)
    if kind in _BY_PEOPLE:
        by = dag_run.triggering_user_name or "somebody"
        found.append(events.demand(name, at, by=by, conf=conf))
    elif events.REQUEST in conf:
        found.append(events.demand(name, at, by=name, conf=conf))
    elif kind != _BY_ASSETS or not found:
        start, end = dag_run.data_interval_start, dag_run.data_interval_end
        interval = {"start": start and _utc(start), "end": end and _utc(end)}
        found.append(events.schedule(name, at, **interval))
    return list({event.id: event for event in found}.values())


def emitted(context: Context) -> list[RetrainingEvent]:
    """Return the asset events that started a run, and those of the task's inlets since."""
    dag_run: Any = context["dag_run"]
    return [_asset_event(each) for each in [*dag_run.consumed_asset_events, *_late(context)]]


def _kind(dag_run: Any) -> str:
    return str(getattr(dag_run.run_type, "value", dag_run.run_type))


def _late(context: Context) -> Iterator[Any]:
    """Yield events that came after those that started this run, which saw only the first.

    A run that no asset started leaves them to theirs; a backfill may be of years ago.
    """
    if _kind(context["dag_run"]) != _BY_ASSETS:
        return
    inlets: Any = context.get("inlet_events") or {}
    since = _utc(context["dag_run"].run_after)
    for asset in inlets:
        yield from inlets[asset].after(since).limit(_MAX_LATE)


def _asset_event(event: Any) -> RetrainingEvent:
    from airflow_mlops_provider.steps.retrain.events import asset_event

    source = [event.source_dag_id, event.source_run_id, event.source_task_id]
    return asset_event(
        event.asset.uri,
        _utc(event.timestamp),
        extra=event.extra or {},
        emitted_by="/".join(map(str, source)) if event.source_dag_id else None,
    )


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
