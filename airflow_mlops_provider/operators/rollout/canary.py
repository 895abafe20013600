"""Roll a model version out step by step, on evidence from live traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.rollout.base import DEFERRABLE, RolloutOperator
from airflow_mlops_provider.records import ModelVersionRef

if TYPE_CHECKING:
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


class CanaryRolloutOperator(RolloutOperator):
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
        *RolloutOperator.shared_template_fields,
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
        deferrable: bool = DEFERRABLE,
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

    def _plan(self) -> CanaryPlan:
        from airflow_mlops_provider.steps.deploy import deployment_name
        from airflow_mlops_provider.steps.rollout.plan import CanaryPlan

        version = ModelVersionRef.from_xcom(self.candidate)
        return CanaryPlan.of(
            candidate=deployment_name(version.version),
            model_uri=version.model_uri,
            **{name: getattr(self, name) for name in _KNOBS},
        )
