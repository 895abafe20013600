"""Switch an endpoint to a model version at once, and back at once if need be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.operators.rollout.release import PromotingOperator

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.release import ReleasePlan


class BlueGreenRolloutOperator(PromotingOperator):
    """Deploy a candidate dark, switch all traffic to it in one step, and watch it.

    Gives a ``RolloutVerdict``. The old version stays ready, so going back is one step as well;
    it is taken when a guardrail breaks, or when errors or latency are proven worse than the old
    version's were before the switch. Retries, pauses, clearing and marking failed are as for
    ``CanaryRolloutOperator``.

    The arguments of ``PromotingOperator`` are taken as well.

    Args:
        bake_max_seconds: After this long at 100 % without ``min_requests`` the bake is
            inconclusive.
        bake_margin: How much higher, relatively, error rate and latency may be than the old
            version's were before the switch.
    """

    knobs = (
        *PromotingOperator.knobs,
        "bake_max_seconds",
        "bake_margin",
    )
    template_fields: Sequence[str] = (*PromotingOperator.release_fields, *knobs)

    def __init__(
        self,
        *,
        bake_max_seconds: float = 3600,
        bake_margin: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bake_max_seconds = bake_max_seconds
        self.bake_margin = bake_margin

    def _plan(self) -> ReleasePlan:
        from airflow_mlops_provider.steps.rollout.plan import BlueGreenPlan

        return BlueGreenPlan.of(**self._given())
