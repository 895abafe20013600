"""What every rollout operator does: start or take up, wait, and record how it ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.exceptions import RolloutFailedError, ServingUnavailableError
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.links import RolloutLink, rollout_url
from airflow_mlops_provider.operators.base import MlopsOperator, failing_for_good
from airflow_mlops_provider.records import Record, RolloutVerdict
from airflow_mlops_provider.triggers.rollout import RolloutTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.serving.client import ServingClient
    from airflow_mlops_provider.steps.rollout.kinds import DrivenPlan, DrivenState

DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)
_EVIDENCE_STEPS = 3
"""Steps that an error message shows; XCom and MLflow hold them all."""


class RolloutOperator(MlopsOperator):
    """Base of the operators that drive a rollout; not for use in a DAG.

    A subclass has the attributes ``endpoint``, ``deferrable`` and ``serving_conn_id``, gives its
    plan in :meth:`_plan`, and may name the record it ends with and say what counts as failure.
    """

    operator_extra_links = (*MlopsOperator.operator_extra_links, RolloutLink())
    verdict_type: ClassVar[type[Record]] = RolloutVerdict
    endpoint: str
    deferrable: bool
    serving_conn_id: str

    def _plan(self) -> DrivenPlan:
        """Build the plan from the operator's arguments; checks all of them."""
        raise NotImplementedError

    def _failure(self, verdict: Any) -> str | None:
        """Say why the task fails with this verdict, if it does."""
        return None if verdict.state == "SUCCEEDED" else explain(verdict)

    def _work(self, client: ServingClient, plan: Any, state: Any) -> DrivenState:
        """Do what the state leaves to a worker (:attr:`DrivenState.for_worker`)."""
        raise NotImplementedError

    def execute(self, context: Context) -> dict[str, Any]:
        """Start or take up the rollout, then wait for its end here or in the triggerer."""
        from airflow_mlops_provider.steps.rollout.drive import Driver, begin
        from airflow_mlops_provider.steps.rollout.progress import Progress

        context["ti"].xcom_push(
            key=RolloutLink.xcom_key, value=rollout_url(self.endpoint, self.serving_conn_id)
        )
        with failing_for_good():
            plan = self._plan()
            client = ServingHook(self.serving_conn_id).get_conn()
            state = begin(client, self.endpoint, plan, time.time())
            driver, progress = Driver(client, self.endpoint, plan), Progress()
            while not state.ended:
                ticked = driver.tick(time.time())
                if ticked and ticked.for_worker:
                    ticked = self._work(client, plan, ticked)
                line = progress.line(ticked, time.time())
                if line:
                    self.log.info("Rollout: %s", line)
                state = ticked or state
                if state.ended:
                    break
                if self.deferrable:
                    self._defer(plan)
                time.sleep(plan.interval_seconds)
        return self._conclude(context, state.verdict(self.endpoint))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Record what the trigger saw the rollout end with."""
        if "verdict" in event:
            return self._conclude(context, self.verdict_type.from_xcom(event["verdict"]))
        if "for_worker" in event:
            return self.execute(context)
        failure = AirflowFailException if event["permanent"] else ServingUnavailableError
        raise failure(event["error"])

    def _defer(self, plan: DrivenPlan) -> NoReturn:
        self.defer(
            trigger=RolloutTrigger(
                endpoint=self.endpoint,
                plan=plan.to_xcom(),
                serving_conn_id=self.serving_conn_id,
            ),
            method_name="execute_complete",
        )

    def _conclude(self, context: Context, verdict: Any) -> dict[str, Any]:
        """Keep the verdict, then fail the task unless it is good."""
        record: dict[str, Any] = verdict.to_xcom()
        failure = self._failure(verdict)
        with self.tracked_run(context) as run:
            run.log_record(verdict)
            if failure:
                context["ti"].xcom_push(key="return_value", value=record)
                raise RolloutFailedError(failure)
        self.log.info("The rollout of %s on %s %s", verdict.candidate, self.endpoint, verdict.state)
        return record


_REMEDIES = {
    "ROLLED_BACK": "All traffic is on {champion}. Register a better version, or undeploy "
    "{candidate} and run the rollout again.",
    "ROLLBACK_FAILED": "Set the traffic by hand: deploy {champion} with traffic 100. Clearing "
    "this task tries to roll back again.",
    "PAUSED": "The traffic stays as it is. Clear this task to go on, or end the rollout by "
    "deploying {champion} or {candidate} with traffic 100.",
}


def explain(verdict: RolloutVerdict) -> str:
    """Say how a rollout that did not succeed ended, on what evidence, and what to do."""
    remedy = _REMEDIES[verdict.state].format(champion=verdict.champion, candidate=verdict.candidate)
    steps = "; ".join(_told(step) for step in verdict.steps[-_EVIDENCE_STEPS:])
    return (
        f"The rollout of {verdict.candidate} on {verdict.endpoint} ended {verdict.state}: "
        f"{verdict.reason}. {remedy} Evidence: {steps or 'none was gathered'}."
    )


def _told(step: dict[str, Any]) -> str:
    line = f"{step['weight']} % for {step['seconds']:.0f} s: "
    if "pairs" in step:
        return (
            f"{line}{step['disagreements']} of {step['pairs']} mirrored requests disagree, "
            f"{step['shadow_failed']} more failed"
        )
    return (
        f"{line}candidate {step['candidate_errors']} errors of {step['candidate_requests']}, "
        f"champion {step['champion_errors']} of {step['champion_requests']}, "
        f"e-value {step['error_e_value']:g}"
    )
