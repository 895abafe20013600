"""Roll a model version out step by step, on evidence from live traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.operators.rollout.release import PromotingOperator

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.release import ReleasePlan


class CanaryRolloutOperator(PromotingOperator):
    """Move traffic from the champion to a candidate in steps, as long as the evidence allows.

    Gives a ``RolloutVerdict``. A rollout that was rolled back or paused pushes its verdict and
    fails the task for good. Its state lives on the serving host: a retry or a cleared task goes
    on where the last one stopped, and clearing a paused one resumes it. If the task is marked
    failed while deferred, the rollout is rolled back; if its driver just disappears, the host
    does so when the lease runs out.

    The arguments of ``PromotingOperator`` are taken as well.

    Args:
        steps: The candidate's percent of traffic, ascending to 100.
        step_min_seconds: Shortest time at each weight.
        step_max_seconds: After this long an undecided step is inconclusive.
        shield: Ask the champion again what the candidate failed: users see no failure of it,
            and its failures still count. The target has to be able to.
    """

    knobs = (
        *PromotingOperator.knobs,
        "steps",
        "step_min_seconds",
        "step_max_seconds",
        "shield",
    )
    template_fields: Sequence[str] = (*PromotingOperator.release_fields, *knobs)

    def __init__(
        self,
        *,
        steps: Any = (5, 25, 50, 100),
        step_min_seconds: float = 300,
        step_max_seconds: float = 3600,
        shield: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.steps = steps
        self.step_min_seconds = step_min_seconds
        self.step_max_seconds = step_max_seconds
        self.shield = shield

    def _plan(self) -> ReleasePlan:
        from airflow_mlops_provider.steps.rollout.plan import CanaryPlan

        return CanaryPlan.of(**self._given())
