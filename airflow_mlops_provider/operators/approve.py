"""Ask people before a model is promoted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.exceptions import HITLRejectException, HITLTimeoutError
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.operators.base import MlopsOperator, failing_for_good
from airflow_mlops_provider.operators.registry import PromoteModelOperator
from airflow_mlops_provider.records import GateVerdict, ModelVersionRef

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

TIMED_OUT = "timed out"
BY_DEFAULT = "nobody answered in time, so the default was taken"
REASON = {"reason": Param("", type=["null", "string"], description="Why, if you like to say it.")}


class ApproveModelOperator(MlopsOperator, ApprovalOperator):
    """Ask a person whether a model may be promoted, and show what the gate found.

    Waits without a worker slot, as Airflow's ``ApprovalOperator`` does, whose other arguments it
    takes (``response_timeout``, ``defaults``, ``assigned_users``, ``notifiers``,
    ``fail_on_reject``). A rejection skips what follows; no answer in time fails the task for good,
    unless ``defaults`` answers for whoever did not. The version keeps who decided what, when and
    why, as tags ``mlops.approval.*``, whatever the answer.

    Args:
        verdict: The ``GateVerdict`` to show.
        model_version: The ``ModelVersionRef`` it is about.
        subject: Headline of the question.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "verdict",
        "model_version",
        "subject",
    )

    def __init__(
        self,
        *,
        verdict: Any,
        model_version: Any,
        subject: str = "Promote this model?",
        **kwargs: Any,
    ) -> None:
        super().__init__(subject=subject, **{"params": REASON, **kwargs})
        self.verdict = verdict
        self.model_version = model_version

    def execute(self, context: Context) -> Any:
        """Put the question."""
        from airflow_mlops_provider.steps.approval import question

        with failing_for_good():
            version = ModelVersionRef.from_xcom(self.model_version)
            self.body = question(GateVerdict.from_xcom(self.verdict), version)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Keep the answer with the version, then act on it."""
        from airflow_mlops_provider.steps.approval import record_answer

        client, _ = self.open_experiment()
        user = event.get("responded_by_user") or {}
        record_answer(
            client,
            ModelVersionRef.from_xcom(self.model_version),
            answer=TIMED_OUT if "error" in event else event["chosen_options"][0],
            by=user.get("name") or "nobody",
            at=event.get("responded_at"),
            reason=reason_of(event),
        )
        try:
            return super().execute_complete(context, event)
        except (HITLRejectException, HITLTimeoutError) as error:  # a retry would ask once more
            raise AirflowFailException(reason_of(event) or str(error)) from error


def reason_of(event: dict[str, Any]) -> str:
    """Return why a question was answered so, as far as somebody said."""
    if event.get("timedout"):
        return BY_DEFAULT
    return (event.get("params_input") or {}).get("reason") or event.get("error") or ""


def promote_after_approval(
    gate: BaseOperator, model_version: Any, *, expected_champion: Any = None, **approval: Any
) -> PromoteModelOperator:
    """Wire ``gate >> approve >> promote``, and return the promotion.

    Args:
        gate: The task of ``ValidateModelOperator``.
        model_version: The ``ModelVersionRef`` to promote.
        expected_champion: As in ``PromoteModelOperator``.
        **approval: Further arguments of ``ApproveModelOperator``.
    """
    approve = ApproveModelOperator(
        **{"task_id": "approve", **approval}, verdict=gate.output, model_version=model_version
    )
    promote = PromoteModelOperator(
        task_id="promote", model_version=model_version, expected_champion=expected_champion
    )
    gate >> approve >> promote
    return promote
