"""Ask a person what an alert calls for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.exceptions import HITLTimeoutError
from airflow.providers.standard.operators.hitl import HITLBranchOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_mlops_provider.operators.approve import REASON, TIMED_OUT, reason_of
from airflow_mlops_provider.operators.base import MlopsOperator, failing_for_good
from airflow_mlops_provider.operators.retrain import emitted, run_name

if TYPE_CHECKING:
    from airflow.sdk import Context

RETRAIN, IGNORE, ROLL_BACK = "Retrain", "Ignore", "Roll back"
EVENT_KEY, _FINDINGS_KEY = "event", "findings"


class JudgeAlertOperator(MlopsOperator, HITLBranchOperator):
    """Ask a person whether to retrain, to ignore an alert or to roll back, and go on so.

    Shows the findings of the monitoring reports that the run's asset events carry, waits without a
    worker slot, and follows the task of the answer: ``retrain``, ``ignore`` or ``roll_back``,
    unless ``options`` and ``options_mapping`` say otherwise. Takes all other arguments of Airflow's
    ``HITLBranchOperator`` too (``response_timeout``, ``defaults``, ``assigned_users``,
    ``notifiers``). Gives the ``AlertAnswer``, which the ledger of retraining keeps with who, when
    and why; ``output["event"]`` is the event to ask a training DAG for a training with.

    Args:
        name: Of the ledger.
        report: A ``MonitoringReport``, or a list of them, to show instead of the asset events.
        subject: Headline of the question.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "name",
        "report",
        "subject",
    )

    def __init__(
        self,
        *,
        name: str,
        report: Any = None,
        subject: str = "What does this alert call for?",
        **kwargs: Any,
    ) -> None:
        super().__init__(subject=subject, **{**_QUESTION, **kwargs})
        self.name = name
        self.report = report

    def execute(self, context: Context) -> Any:
        """Put the question, unless another run has put it about the same events."""
        from airflow_mlops_provider.steps.retrain.alert import findings, question
        from airflow_mlops_provider.steps.retrain.ledger import Ledger

        told = emitted(context)
        with failing_for_good():
            events = Ledger(self.workspace_uri, self.name).own(told, run_name(context))
        if told and not events:
            raise AirflowSkipException("Another run asks about these alerts already.")
        reports = [each.evidence for each in events] if self.report is None else self.report
        found = findings([reports] if isinstance(reports, Mapping) else reports)
        self.body = question(events, found)
        context["ti"].xcom_push(key=_FINDINGS_KEY, value=found)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Keep the answer, hand it over, and go on with its task."""
        from airflow_mlops_provider.steps.retrain.alert import answered
        from airflow_mlops_provider.steps.retrain.ledger import Ledger

        user = event.get("responded_by_user") or {}
        answer = answered(
            self.name,
            run_name(context),
            answer=TIMED_OUT if "error" in event else event["chosen_options"][0],
            by=user.get("name"),
            at=str(event.get("responded_at") or datetime.now(UTC)).replace(" ", "T"),
            reason=reason_of(event),
            found=context["ti"].xcom_pull(task_ids=self.task_id, key=_FINDINGS_KEY) or [],
        )
        with failing_for_good():
            Ledger(self.workspace_uri, self.name).keep_answer(answer)
        told = answer.to_xcom()
        context["ti"].xcom_push(key="return_value", value=told)
        context["ti"].xcom_push(key=EVENT_KEY, value=told[EVENT_KEY])
        try:
            return super().execute_complete(context, event)
        except HITLTimeoutError as error:  # a retry would ask once more
            raise AirflowFailException(reason_of(event) or str(error)) from error


_QUESTION: dict[str, Any] = {
    "options": [RETRAIN, IGNORE, ROLL_BACK],
    "options_mapping": {RETRAIN: "retrain", IGNORE: "ignore", ROLL_BACK: "roll_back"},
    "params": REASON,
}
