"""Let live traffic tell which of two model versions does better, by what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.experiment import ExperimentOperator
from airflow_mlops_provider.operators.rollout.base import DEFERRABLE
from airflow_mlops_provider.records import ABTestVerdict, ModelVersionRef

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.experiment.ab_test import ABTest
    from airflow_mlops_provider.steps.experiment.plan import ABTestPlan

_KNOBS = (
    "split",
    "unit",
    "metric",
    "direction",
    "missing",
    "margin",
    "min_effect",
    "alpha",
    "power",
    "mismatch_alpha",
    "min_units",
    "max_units",
    "max_seconds",
    "label_delay_seconds",
    "look_seconds",
    "on_win",
    "guard_alpha",
    "error_margin",
    "latency_margin",
    "latency_slack_ms",
    "max_error_rate",
    "max_consecutive_errors",
    "max_schema_violations",
    "bake_seconds",
    "interval_seconds",
    "outage_seconds",
    "ready_timeout_seconds",
    "rollback_timeout_seconds",
    "lease_seconds",
    "options",
)
_ANSWERS = ("better", "worse", "inconclusive")


class ABTestOperator(ExperimentOperator):
    """Split traffic between champion and candidate until outcomes tell which is better.

    Gives an ``ABTestVerdict``. ``better``, ``worse`` and ``inconclusive`` are answers; a test
    that is invalid (the arms did not get the units they should have got), that a guardrail
    stopped or that somebody moved the traffic under, pushes its verdict and fails the task for
    good. While it waits between looks it holds no worker slot, and errors and latency of the
    candidate are watched as in a canary; only looks run in a worker, where they read the data.

    Args:
        endpoint: Name of the endpoint; one deployment must serve all of its traffic.
        candidate: The ``ModelVersionRef`` to try.
        outcomes: What became of requests or entities, as rows of ``request_id`` or
            ``entity_id``, ``ts`` and ``value``: Parquet or CSV files (a path, folder, glob or
            URI), or a function or its import path, called with ``start`` and ``end``.
        outcomes_args: Further keyword arguments of the function.
        sql: Instead of ``outcomes``: a query, or a ``.sql`` file with one, that gives such rows;
            ``:start`` and ``:end`` are bound to when the test began and when the look is taken.
        conn_id: Connection of the query; its hook has to be a ``DbApiHook``.
        log_folder: Where the exposures are: a folder of prediction-log segments or compacted
            Parquet; by default the endpoint's log in the workspace.
        split: Percent of the units that get the candidate.
        unit: ``entity`` (assignment sticks to the header ``x-entity-id``) or ``request``.
        metric: ``mean`` compares means of the units' values, ``rate`` how many units have a
            value above 0.
        direction: Whether an ``increase`` or a ``decrease`` is good.
        missing: What a unit without an outcome is: ``ignore`` (not known) or ``zero``.
        margin: How much better the candidate has to be; below 0, how much worse it may be.
        min_effect: The smallest difference beyond ``margin`` worth finding; with ``power`` it
            sets the number of units at which the test gives up.
        alpha: Chance that equal arms ever end with a winner or a loser, over all looks.
        power: Chance that a difference of ``min_effect`` is found.
        mismatch_alpha: Chance that a sound assignment is ever called a mismatch.
        min_units: Units with an outcome that each arm needs before anything is concluded.
        max_units: Units of both arms at which the test gives up, instead of ``min_effect``.
        max_seconds: Time after which the test gives up.
        label_delay_seconds: How long outcomes take: younger exposures are left out.
        look_seconds: Time between two looks at the data.
        on_win: ``promote`` (all traffic to a better candidate) or ``report`` (back to the
            champion; the verdict says that it is better).
        guard_alpha: Chance that errors or latency ever accuse a sound candidate.
        error_margin: How much higher, relatively, the candidate's error rate may be.
        latency_margin: How much higher, relatively, its typical latency may be.
        latency_slack_ms: A candidate that is slower by less than this is never blamed.
        max_error_rate: Roll back above this error rate, from 50 requests on.
        max_consecutive_errors: Roll back after so many errors without a success.
        max_schema_violations: Roll back above so many answers against the output signature.
        bake_seconds: How long the guardrails watch a promoted candidate.
        interval_seconds: Time between two looks at the guardrails.
        outage_seconds: Roll back when counters are missing for so long.
        ready_timeout_seconds: How long loading the candidate may take.
        rollback_timeout_seconds: How long to try to set the traffic back.
        lease_seconds: The host rolls back when nobody drove the test for so long; a look has to
            get a worker slot and be done within it.
        options: ``DeploymentOptions`` of the candidate's deployment.
        deferrable: Wait in the triggerer, without a worker slot.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = (
        *ExperimentOperator.experiment_fields,
        "candidate",
        *_KNOBS,
    )
    verdict_type = ABTestVerdict
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql", "outcomes_args": "json"}

    def __init__(
        self,
        *,
        endpoint: str,
        candidate: Any,
        outcomes: Any = None,
        outcomes_args: Mapping[str, Any] | None = None,
        sql: str | None = None,
        conn_id: str | None = None,
        log_folder: str | None = None,
        split: int = 50,
        unit: str = "entity",
        metric: str = "mean",
        direction: str = "increase",
        missing: str = "ignore",
        margin: float = 0.0,
        min_effect: float | None = None,
        alpha: float = 0.05,
        power: float = 0.8,
        mismatch_alpha: float = 0.01,
        min_units: int = 100,
        max_units: int | None = None,
        max_seconds: float = 14 * 86400,
        label_delay_seconds: float = 0,
        look_seconds: float = 3600,
        on_win: str = "promote",
        guard_alpha: float = 0.01,
        error_margin: float = 0.2,
        latency_margin: float = 0.2,
        latency_slack_ms: float = 10,
        max_error_rate: float = 0.2,
        max_consecutive_errors: int = 10,
        max_schema_violations: int = 0,
        bake_seconds: float = 600,
        interval_seconds: float = 15,
        outage_seconds: float = 600,
        ready_timeout_seconds: float = 180,
        rollback_timeout_seconds: float = 300,
        lease_seconds: float | None = 900,
        options: Mapping[str, Any] | None = None,
        deferrable: bool = DEFERRABLE,
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.candidate = candidate
        self.outcomes = outcomes
        self.outcomes_args = outcomes_args
        self.sql = sql
        self.conn_id = conn_id
        self.log_folder = log_folder
        self.split = split
        self.unit = unit
        self.metric = metric
        self.direction = direction
        self.missing = missing
        self.margin = margin
        self.min_effect = min_effect
        self.alpha = alpha
        self.power = power
        self.mismatch_alpha = mismatch_alpha
        self.min_units = min_units
        self.max_units = max_units
        self.max_seconds = max_seconds
        self.label_delay_seconds = label_delay_seconds
        self.look_seconds = look_seconds
        self.on_win = on_win
        self.guard_alpha = guard_alpha
        self.error_margin = error_margin
        self.latency_margin = latency_margin
        self.latency_slack_ms = latency_slack_ms
        self.max_error_rate = max_error_rate
        self.max_consecutive_errors = max_consecutive_errors
        self.max_schema_violations = max_schema_violations
        self.bake_seconds = bake_seconds
        self.interval_seconds = interval_seconds
        self.outage_seconds = outage_seconds
        self.ready_timeout_seconds = ready_timeout_seconds
        self.rollback_timeout_seconds = rollback_timeout_seconds
        self.lease_seconds = lease_seconds
        self.options = options
        self.deferrable = deferrable
        self.serving_conn_id = serving_conn_id

    def _plan(self) -> ABTestPlan:
        from airflow_mlops_provider.steps.deploy import deployment_name
        from airflow_mlops_provider.steps.experiment.plan import ABTestPlan

        self._check_outcomes()
        version = ModelVersionRef.from_xcom(self.candidate)
        return ABTestPlan.of(
            candidate=deployment_name(version.version),
            model_uri=version.model_uri,
            **{name: getattr(self, name) for name in _KNOBS},
        )

    def _kind(self) -> ABTest:
        from airflow_mlops_provider.steps.experiment.ab_test import AB_TEST

        return AB_TEST

    def _failure(self, verdict: ABTestVerdict) -> str | None:
        """Say why there is no answer, or why the traffic is not where the answer wants it."""
        promoted = verdict.finding != "better" or self.on_win != "promote"
        if verdict.finding in _ANSWERS and (
            verdict.state == "SUCCEEDED" or (promoted and verdict.state == "ROLLED_BACK")
        ):
            return None
        return explain(verdict)


def explain(verdict: ABTestVerdict) -> str:
    """Say how a test without an answer ended, on what figures, and what to do."""
    seen = verdict.figures
    figures = ", ".join(
        f"{name} {seen[name]}"
        for name in ("champion_exposed", "candidate_exposed", "champion_units", "candidate_units")
        if name in seen
    )
    remedy = {
        "invalid": "Look for what sends units of one arm elsewhere or loses their outcomes, then "
        "undeploy the candidate and test again.",
        "stopped": "Mend what stopped it, undeploy the candidate and test again.",
    }.get(verdict.finding, "Look at the endpoint's traffic before anything else.")
    return (
        f"The A/B test of {verdict.candidate} against {verdict.champion} on {verdict.endpoint} "
        f"ended {verdict.state}, {verdict.finding}: {verdict.reason}. {remedy} Figures: "
        f"{figures or 'no look was taken'}."
    )
