"""Roll a model version out step by step, on evidence from live traffic."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.exceptions import RolloutFailedError, ServingUnavailableError
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.base import MlopsOperator, failing_for_good
from airflow_mlops_provider.records import ModelVersionRef, RolloutVerdict
from airflow_mlops_provider.triggers.rollout import RolloutTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.steps.rollout.plan import CanaryPlan

_KNOBS = (
    "steps",
    "step_min_seconds",
    "step_max_seconds",
    "min_requests",
    "interval_seconds",
    "alpha",
    "margin",
    "latency_margin",
    "latency_slack_ms",
    "max_error_rate",
    "max_consecutive_errors",
    "max_schema_violations",
    "outage_seconds",
    "on_inconclusive",
    "bake_seconds",
    "ready_timeout_seconds",
    "rollback_timeout_seconds",
    "lease_seconds",
)
_EVIDENCE_STEPS = 3
"""Steps that an error message shows; XCom and MLflow hold them all."""


class CanaryRolloutOperator(MlopsOperator):
    """Move traffic from the champion to a candidate in steps, as long as the evidence allows.

    Gives a ``RolloutVerdict``. A rollout that was rolled back or paused pushes its verdict and
    fails the task for good. Its state lives on the serving host: a retry or a cleared task goes
    on where the last one stopped, and clearing a paused one resumes it. If the task is marked
    failed while deferred, the rollout is rolled back; if its driver just disappears, the host
    does so when the lease runs out.

    Args:
        endpoint: Name of the endpoint; one deployment must serve all of its traffic.
        candidate: The ``ModelVersionRef`` to roll out.
        steps: The candidate's percent of traffic, ascending to 100.
        step_min_seconds: Shortest time at each weight.
        step_max_seconds: After this long an undecided step is inconclusive.
        min_requests: Requests each side must answer at each weight; without them, no promotion.
        interval_seconds: Time between two looks.
        alpha: Chance of ever accusing a sound candidate, over all looks, steps and metrics.
        margin: How much higher, relatively, the candidate's error rate may be.
        latency_margin: How much higher, relatively, its typical latency may be.
        latency_slack_ms: A candidate that is slower by less than this is never blamed.
        max_error_rate: Roll back above this error rate within a step, from 50 requests on.
        max_consecutive_errors: Roll back after so many errors without a success.
        max_schema_violations: Roll back above so many answers against the output signature.
        outage_seconds: Roll back when counters are missing for so long.
        on_inconclusive: ``pause`` (hold the weights, fail the task) or ``rollback``.
        bake_seconds: How long the guardrails watch the candidate at 100 %.
        ready_timeout_seconds: How long loading the candidate may take.
        rollback_timeout_seconds: How long to try to set the traffic back.
        lease_seconds: The host rolls back when nobody drove the rollout for so long.
        deferrable: Wait in the triggerer, without a worker slot.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "endpoint",
        "candidate",
        *_KNOBS,
        "serving_conn_id",
    )

    def __init__(
        self,
        *,
        endpoint: str,
        candidate: Any,
        steps: Any = (5, 25, 50, 100),
        step_min_seconds: float = 300,
        step_max_seconds: float = 3600,
        min_requests: int = 200,
        interval_seconds: float = 15,
        alpha: float = 0.05,
        margin: float = 0.2,
        latency_margin: float = 0.2,
        latency_slack_ms: float = 10,
        max_error_rate: float = 0.2,
        max_consecutive_errors: int = 10,
        max_schema_violations: int = 0,
        outage_seconds: float = 600,
        on_inconclusive: str = "pause",
        bake_seconds: float = 600,
        ready_timeout_seconds: float = 180,
        rollback_timeout_seconds: float = 300,
        lease_seconds: float = 120,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.candidate = candidate
        self.steps = steps
        self.step_min_seconds = step_min_seconds
        self.step_max_seconds = step_max_seconds
        self.min_requests = min_requests
        self.interval_seconds = interval_seconds
        self.alpha = alpha
        self.margin = margin
        self.latency_margin = latency_margin
        self.latency_slack_ms = latency_slack_ms
        self.max_error_rate = max_error_rate
        self.max_consecutive_errors = max_consecutive_errors
        self.max_schema_violations = max_schema_violations
        self.outage_seconds = outage_seconds
        self.on_inconclusive = on_inconclusive
        self.bake_seconds = bake_seconds
        self.ready_timeout_seconds = ready_timeout_seconds
        self.rollback_timeout_seconds = rollback_timeout_seconds
        self.lease_seconds = lease_seconds
        self.deferrable = deferrable
        self.serving_conn_id = serving_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Start or take up the rollout, then wait for its end here or in the triggerer."""
        from airflow_mlops_provider.steps.rollout.drive import Driver, begin

        with failing_for_good():
            plan = self._plan()
            client = ServingHook(self.serving_conn_id).get_conn()
            state = begin(client, self.endpoint, plan, time.time())
            driver = Driver(client, self.endpoint, plan)
            while not state.ended:
                state = driver.tick(time.time()) or state
                self.log.info("Rollout: %s", state.describe())
                if state.ended:
                    break
                if self.deferrable:
                    self._defer(plan)
                time.sleep(plan.interval_seconds)
        return self._conclude(context, state.verdict(self.endpoint))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Record what the trigger saw the rollout end with."""
        if "verdict" in event:
            return self._conclude(context, RolloutVerdict.from_xcom(event["verdict"]))
        failure = AirflowFailException if event["permanent"] else ServingUnavailableError
        raise failure(event["error"])

    def _plan(self) -> CanaryPlan:
        from airflow_mlops_provider.steps.deploy import deployment_name
        from airflow_mlops_provider.steps.rollout.plan import CanaryPlan

        version = ModelVersionRef.from_xcom(self.candidate)
        return CanaryPlan.of(
            candidate=deployment_name(version.version),
            model_uri=version.model_uri,
            **{name: getattr(self, name) for name in _KNOBS},
        )

    def _defer(self, plan: CanaryPlan) -> NoReturn:
        self.defer(
            trigger=RolloutTrigger(
                endpoint=self.endpoint,
                plan=plan.to_xcom(),
                serving_conn_id=self.serving_conn_id,
            ),
            method_name="execute_complete",
        )

    def _conclude(self, context: Context, verdict: RolloutVerdict) -> dict[str, Any]:
        """Keep the verdict, then fail the task unless the candidate was promoted."""
        record = verdict.to_xcom()
        with self.tracked_run(context) as run:
            run.log_record(verdict)
            if verdict.state != "SUCCEEDED":
                context["ti"].xcom_push(key="return_value", value=record)
                raise RolloutFailedError(explain(verdict))
        self.log.info("%s serves all traffic of %s", verdict.candidate, verdict.endpoint)
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
    steps = "; ".join(
        f"{step['weight']} % for {step['seconds']:.0f} s: candidate {step['candidate_errors']} "
        f"errors of {step['candidate_requests']}, champion {step['champion_errors']} of "
        f"{step['champion_requests']}, e-value {step['error_e_value']:g}"
        for step in verdict.steps[-_EVIDENCE_STEPS:]
    )
    return (
        f"The rollout of {verdict.candidate} on {verdict.endpoint} ended {verdict.state}: "
        f"{verdict.reason}. {remedy} Evidence: {steps or 'none was gathered'}."
    )
