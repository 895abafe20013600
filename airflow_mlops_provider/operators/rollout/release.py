"""What the operators that release one model version share, as their plans do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.rollout.base import DEFERRABLE, RolloutOperator
from airflow_mlops_provider.records import ModelVersionRef


class ReleaseOperator(RolloutOperator):
    """Base of the operators that release one model version; not for use in a DAG.

    Args:
        endpoint: Name of the endpoint; one deployment must serve all of its traffic.
        candidate: The ``ModelVersionRef`` to roll out.
        interval_seconds: Time between two looks.
        alpha: Chance of ever accusing a sound candidate, over all looks, steps and metrics.
        margin: How much higher, relatively, the candidate's error rate may be.
        latency_margin: How much higher, relatively, its typical latency may be.
        latency_slack_ms: A candidate that is slower by less than this is never blamed.
        max_error_rate: Roll back above this error rate within a step, from 50 requests on.
        max_consecutive_errors: Roll back after so many errors without a success.
        max_schema_violations: Roll back above so many answers against the output signature.
        dry_run_metrics: Tests (``errors``, ``latency``, ``disagreement``, ``shift``) and
            metrics that are judged and reported but never act.
        tolerance: Scores of a mirrored request that are further apart disagree; other
            answers must be equal.
        max_disagreement: The share of mirrored requests on which the two may disagree.
        max_shift: How far the mean score of mirrored requests may move; None is
            ``tolerance``.
        outage_seconds: How long counters may be missing.
        on_metric_outage: What follows then: ``rollback`` or ``pause``.
        ready_timeout_seconds: How long loading the candidate may take.
        rollback_timeout_seconds: How long to try to set the traffic back.
        lease_seconds: The host rolls back when nobody drove the rollout for so long; None
            asks for no lease.
        options: ``DeploymentOptions`` of the candidate's deployment.
        deferrable: Wait in the triggerer, without a worker slot.
        serving_conn_id: Connection of the serving host.
    """

    knobs: ClassVar[tuple[str, ...]] = (
        "interval_seconds",
        "alpha",
        "margin",
        "latency_margin",
        "latency_slack_ms",
        "max_error_rate",
        "max_consecutive_errors",
        "max_schema_violations",
        "dry_run_metrics",
        "tolerance",
        "max_disagreement",
        "max_shift",
        "outage_seconds",
        "on_metric_outage",
        "ready_timeout_seconds",
        "rollback_timeout_seconds",
        "lease_seconds",
        "options",
    )
    """Arguments that are fields of the plan."""
    release_fields: ClassVar[tuple[str, ...]] = (
        *RolloutOperator.shared_template_fields,
        "endpoint",
        "candidate",
        "serving_conn_id",
    )
    template_fields: Sequence[str] = (*release_fields, *knobs)

    def __init__(
        self,
        *,
        endpoint: str,
        candidate: Any,
        interval_seconds: float = 15,
        alpha: float = 0.05,
        margin: float = 0.0,
        latency_margin: float = 0.05,
        latency_slack_ms: float = 2,
        max_error_rate: float = 0.2,
        max_consecutive_errors: int = 10,
        max_schema_violations: int = 0,
        dry_run_metrics: Any = (),
        tolerance: float = 0.1,
        max_disagreement: float = 0.1,
        max_shift: float | None = None,
        outage_seconds: float = 600,
        on_metric_outage: str = "rollback",
        ready_timeout_seconds: float = 180,
        rollback_timeout_seconds: float = 300,
        lease_seconds: float | None = 120,
        options: dict[str, Any] | None = None,
        deferrable: bool = DEFERRABLE,
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.candidate = candidate
        self.interval_seconds = interval_seconds
        self.alpha = alpha
        self.margin = margin
        self.latency_margin = latency_margin
        self.latency_slack_ms = latency_slack_ms
        self.max_error_rate = max_error_rate
        self.max_consecutive_errors = max_consecutive_errors
        self.max_schema_violations = max_schema_violations
        self.dry_run_metrics = dry_run_metrics
        self.tolerance = tolerance
        self.max_disagreement = max_disagreement
        self.max_shift = max_shift
        self.outage_seconds = outage_seconds
        self.on_metric_outage = on_metric_outage
        self.ready_timeout_seconds = ready_timeout_seconds
        self.rollback_timeout_seconds = rollback_timeout_seconds
        self.lease_seconds = lease_seconds
        self.options = options
        self.deferrable = deferrable
        self.serving_conn_id = serving_conn_id

    def _given(self) -> dict[str, Any]:
        """Return what the plan is made of."""
        from airflow_mlops_provider.steps.deploy import deployment_name

        version = ModelVersionRef.from_xcom(self.candidate)
        return {
            "candidate": deployment_name(version.version),
            "model_uri": version.model_uri,
            **{name: getattr(self, name) for name in self.knobs},
        }


class PromotingOperator(ReleaseOperator):
    """Base of those that end with all traffic on the candidate; not for use in a DAG.

    Args:
        min_requests: Requests that each side must answer at each weight, and a blue-green
            candidate while it bakes; without them, no promotion.
        metrics: Metrics of your own, each ``{"name", "kind": "rate" | "mean", "margin",
            "direction"}``, out of the target's counters: ``slow``, ``score``, or the name
            of any counter.
        shadow_percent: Percent of requests to mirror to the candidate before it gets any; 0
            leaves the phase out.
        shadow_min_pairs: Mirrored requests that both sides must answer.
        shadow_min_seconds: Shortest time of the mirrored phase.
        shadow_max_seconds: After this long an undecided mirrored phase is rolled back.
        on_inconclusive: ``pause`` (hold the weights, fail the task) or ``rollback``.
        approval: ``none``, ``between_steps`` or ``before_promotion``: where the traffic
            holds, still watched, until ``ApproveRolloutOperator`` lets it go on.
        approval_seconds: How long to wait for that; then the rollout is paused.
        bake_seconds: How long the candidate is watched at 100 %.
        keep_seconds: How long the old version stays ready after that, the candidate still
            watched, before it is undeployed; None leaves it deployed and ends at once.
    """

    knobs: ClassVar[tuple[str, ...]] = (
        *ReleaseOperator.knobs,
        "min_requests",
        "metrics",
        "shadow_percent",
        "shadow_min_pairs",
        "shadow_min_seconds",
        "shadow_max_seconds",
        "on_inconclusive",
        "approval",
        "approval_seconds",
        "bake_seconds",
        "keep_seconds",
    )
    template_fields: Sequence[str] = (*ReleaseOperator.release_fields, *knobs)

    def __init__(
        self,
        *,
        min_requests: int = 200,
        metrics: Any = (),
        shadow_percent: int = 0,
        shadow_min_pairs: int = 200,
        shadow_min_seconds: float = 300,
        shadow_max_seconds: float = 3600,
        on_inconclusive: str = "pause",
        approval: str = "none",
        approval_seconds: float = 86400,
        bake_seconds: float = 600,
        keep_seconds: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.min_requests = min_requests
        self.metrics = metrics
        self.shadow_percent = shadow_percent
        self.shadow_min_pairs = shadow_min_pairs
        self.shadow_min_seconds = shadow_min_seconds
        self.shadow_max_seconds = shadow_max_seconds
        self.on_inconclusive = on_inconclusive
        self.approval = approval
        self.approval_seconds = approval_seconds
        self.bake_seconds = bake_seconds
        self.keep_seconds = keep_seconds
