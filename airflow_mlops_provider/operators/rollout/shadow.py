"""Try a model version on mirrored traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.operators.rollout.release import ReleaseOperator

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.release import ReleasePlan


class ShadowRolloutOperator(ReleaseOperator):
    """Mirror traffic to a candidate and compare its answers with the champion's.

    Gives a ``RolloutVerdict``. Users never see an answer of the candidate, and no traffic moves:
    SUCCEEDED says that its disagreement is proven to be within ``max_disagreement`` and that
    nothing else speaks against it. Whatever the end, the mirror is taken away again, and the
    candidate stays deployed. Retries, clearing and marking failed are as for
    ``CanaryRolloutOperator``.

    The arguments of ``ReleaseOperator`` are taken as well.

    Args:
        mirror_percent: Percent of requests to mirror to the candidate.
        min_pairs: Mirrored requests that both sides must answer.
        min_seconds: Shortest time to mirror.
        max_seconds: After this long an undecided rollout is inconclusive, and rolled back.
    """

    knobs = (
        *ReleaseOperator.knobs,
        "mirror_percent",
        "min_pairs",
        "min_seconds",
        "max_seconds",
    )
    template_fields: Sequence[str] = (*ReleaseOperator.release_fields, *knobs)

    def __init__(
        self,
        *,
        mirror_percent: int = 100,
        min_pairs: int = 500,
        min_seconds: float = 300,
        max_seconds: float = 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mirror_percent = mirror_percent
        self.min_pairs = min_pairs
        self.min_seconds = min_seconds
        self.max_seconds = max_seconds

    def _plan(self) -> ReleasePlan:
        from airflow_mlops_provider.steps.rollout.plan import ShadowPlan

        return ShadowPlan.of(**self._given())
