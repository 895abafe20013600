"""Let live rewards move the traffic between deployments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.experiment import ExperimentOperator
from airflow_mlops_provider.operators.rollout.base import DEFERRABLE
from airflow_mlops_provider.records import BanditVerdict

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.experiment.bandit_plan import BanditPlan
    from airflow_mlops_provider.steps.experiment.bandit_rollout import Bandit

_KNOBS = (
    "reward",
    "direction",
    "missing",
    "min_weight",
    "stop_at",
    "consecutive",
    "min_units",
    "half_life_seconds",
    "max_error_rate",
    "label_delay_seconds",
    "look_seconds",
    "max_seconds",
    "interval_seconds",
    "outage_seconds",
    "rollback_timeout_seconds",
    "lease_seconds",
    "seed",
)


class BanditRolloutOperator(ExperimentOperator):
    """Give each deployment the share of traffic by which it is probably the best one.

    Gives a ``BanditVerdict``: Thompson sampling, whose weights follow the posteriors at each
    look. It wastes less traffic on what is worse than an A/B test does, and tells less: a
    posterior probability is no statement that holds however often one looks. Ends with all
    traffic on the arm that was clearly the best, or back on the champion. A guardrail, or
    somebody who moves the traffic, fails the task for good.

    Args:
        endpoint: Name of the endpoint.
        deployments: Names of the deployments to play, such as ``["v1", "v2", "v3"]``; all have
            to exist, and one of them has to serve all traffic.
        outcomes: Rewards of requests, as rows of ``request_id``, ``ts`` and ``value``: files, or
            a function or its import path, as for ``ABTestOperator``.
        outcomes_args: Further keyword arguments of the function.
        sql: Instead of ``outcomes``: a query with ``:start`` and ``:end``.
        conn_id: Connection of the query; its hook has to be a ``DbApiHook``.
        log_folder: Where the exposures are; by default the endpoint's log in the workspace.
        reward: ``bernoulli`` (whether a value is above 0) or ``normal`` (the value).
        direction: Whether an ``increase`` or a ``decrease`` is good.
        missing: What a request without a reward is: ``ignore`` (not known) or ``zero``.
        min_weight: Percent that each deployment keeps.
        stop_at: Ends when one is the best with this posterior probability, ...
        consecutive: ... at so many looks in a row.
        min_units: Rewards that each deployment needs before weights move.
        half_life_seconds: Age at which a reward counts half; by default it always counts.
        max_error_rate: Go back to the champion above this error rate of any deployment.
        label_delay_seconds: How long rewards take: younger requests are left out.
        look_seconds: Time between two looks at the data.
        max_seconds: Time after which the bandit gives up.
        interval_seconds: Time between two looks at the guardrail.
        outage_seconds: Go back when counters are missing for so long.
        rollback_timeout_seconds: How long to try to set the traffic back.
        lease_seconds: The host goes back to the champion when nobody drove for so long.
        seed: The draws follow from this and the number of the look; by default the run's id.
        deferrable: Wait in the triggerer, without a worker slot.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = (
        *ExperimentOperator.experiment_fields,
        "deployments",
        *_KNOBS,
    )
    verdict_type = BanditVerdict
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql", "outcomes_args": "json"}

    def __init__(
        self,
        *,
        endpoint: str,
        deployments: Any,
        outcomes: Any = None,
        outcomes_args: Mapping[str, Any] | None = None,
        sql: str | None = None,
        conn_id: str | None = None,
        log_folder: str | None = None,
        reward: str = "bernoulli",
        direction: str = "increase",
        missing: str = "ignore",
        min_weight: int = 5,
        stop_at: float = 0.95,
        consecutive: int = 3,
        min_units: int = 50,
        half_life_seconds: float | None = None,
        max_error_rate: float = 0.2,
        label_delay_seconds: float = 0,
        look_seconds: float = 3600,
        max_seconds: float = 7 * 86400,
        interval_seconds: float = 15,
        outage_seconds: float = 600,
        rollback_timeout_seconds: float = 300,
        lease_seconds: float | None = 900,
        seed: str = "{{ run_id }}",
        deferrable: bool = DEFERRABLE,
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.deployments = deployments
        self.outcomes = outcomes
        self.outcomes_args = outcomes_args
        self.sql = sql
        self.conn_id = conn_id
        self.log_folder = log_folder
        self.reward = reward
        self.direction = direction
        self.missing = missing
        self.min_weight = min_weight
        self.stop_at = stop_at
        self.consecutive = consecutive
        self.min_units = min_units
        self.half_life_seconds = half_life_seconds
        self.max_error_rate = max_error_rate
        self.label_delay_seconds = label_delay_seconds
        self.look_seconds = look_seconds
        self.max_seconds = max_seconds
        self.interval_seconds = interval_seconds
        self.outage_seconds = outage_seconds
        self.rollback_timeout_seconds = rollback_timeout_seconds
        self.lease_seconds = lease_seconds
        self.seed = seed
        self.deferrable = deferrable
        self.serving_conn_id = serving_conn_id

    def _plan(self) -> BanditPlan:
        from airflow_mlops_provider.steps.experiment.bandit_plan import BanditPlan

        self._check_outcomes()
        return BanditPlan.of(
            arms=self.deployments, **{name: getattr(self, name) for name in _KNOBS}
        )

    def _kind(self) -> Bandit:
        from airflow_mlops_provider.steps.experiment.bandit_rollout import BANDIT

        return BANDIT

    def _failure(self, verdict: BanditVerdict) -> str | None:
        """Say what stopped the bandit before it came to an end of its own."""
        if verdict.finding != "stopped" and verdict.state in ("SUCCEEDED", "ROLLED_BACK"):
            return None
        return (
            f"The bandit on {verdict.endpoint} ended {verdict.state} after {verdict.looks} looks: "
            f"{verdict.reason}. Look at the endpoint's traffic; then run it again with the "
            f"deployments that are sound. Rewards: {verdict.rewards or 'no look was taken'}."
        )
