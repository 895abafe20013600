"""Try a model version on mirrored traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.rollout.base import DEFERRABLE, ReleaseOperator

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.release import ReleasePlan


class ShadowRolloutOperator(ReleaseOperator):
    """Mirror traffic to a candidate and compare its answers with the champion's.

    Gives a ``RolloutVerdict``. Users never see an answer of the candidate, and no traffic moves:
    SUCCEEDED says that its disagreement is proven to be within ``max_disagreement`` and that
    nothing else speaks against it. Whatever the end, the mirror is taken away again, and the
    candidate stays deployed. Retries, clearing and marking failed are as for
    ``CanaryRolloutOperator``.

    Args:
        endpoint: Name of the endpoint; one deployment must serve all of its traffic.
        candidate: The ``ModelVersionRef`` to try.
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
        mirror_percent: Percent of requests to mirror to the candidate.
        min_pairs: Mirrored requests that both sides must answer.
        min_seconds: Shortest time to mirror.
        max_seconds: After this long an undecided rollout is inconclusive, and rolled back.
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

    knobs = (
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
        "mirror_percent",
        "min_pairs",
        "min_seconds",
        "max_seconds",
        "outage_seconds",
        "on_metric_outage",
        "ready_timeout_seconds",
        "rollback_timeout_seconds",
        "lease_seconds",
        "options",
    )
    template_fields: Sequence[str] = (
        *ReleaseOperator.shared_template_fields,
        "endpoint",
        "candidate",
        *knobs,
        "serving_conn_id",
    )

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
        mirror_percent: int = 100,
        min_pairs: int = 500,
        min_seconds: float = 300,
        max_seconds: float = 3600,
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
        self.mirror_percent = mirror_percent
        self.min_pairs = min_pairs
        self.min_seconds = min_seconds
        self.max_seconds = max_seconds
        self.outage_seconds = outage_seconds
        self.on_metric_outage = on_metric_outage
        self.ready_timeout_seconds = ready_timeout_seconds
        self.rollback_timeout_seconds = rollback_timeout_seconds
        self.lease_seconds = lease_seconds
        self.options = options
        self.deferrable = deferrable
        self.serving_conn_id = serving_conn_id

    def _plan(self) -> ReleasePlan:
        from airflow_mlops_provider.steps.rollout.plan import ShadowPlan

        return ShadowPlan.of(**self._given())
