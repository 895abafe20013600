"""The promotion gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import SkipMixin

from airflow_mlops_provider.exceptions import GateRefusedError
from airflow_mlops_provider.operators.base import MlopsOperator, failing_for_good
from airflow_mlops_provider.records import EvaluationReport

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import GateVerdict


class ValidateModelOperator(MlopsOperator, SkipMixin):
    """Let a challenger pass only if it holds the floors and is shown to be good enough.

    Gives a ``GateVerdict``. ``refused`` (a floor is broken) fails the task for good;
    ``keep_champion`` (sound, but not shown better) skips what is downstream, save teardowns.

    Args:
        challenger: The challenger's ``EvaluationReport``.
        champion: The champion's on the same rows, or None before the first model.
        metric: What to compare: ``auc``, ``log_loss``, ``brier``, ``mse`` or ``mae``.
        mode: ``superiority`` or ``non_inferiority``.
        margin: Margin of the comparison, in units of ``metric``.
        floors: Metric name to the worst value allowed.
        slice_floor: The worst value of the first metric allowed in any slice.
        confidence: Of the two-sided interval of the difference.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "challenger",
        "champion",
        "metric",
        "mode",
        "margin",
        "floors",
        "slice_floor",
        "confidence",
    )

    def __init__(
        self,
        *,
        challenger: Any,
        champion: Any = None,
        metric: str = "auc",
        mode: Literal["superiority", "non_inferiority"] = "superiority",
        margin: float = 0.0,
        floors: dict[str, float] | None = None,
        slice_floor: float | None = None,
        confidence: float = 0.95,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.challenger = challenger
        self.champion = champion
        self.metric = metric
        self.mode = mode
        self.margin = margin
        self.floors = floors
        self.slice_floor = slice_floor
        self.confidence = confidence

    def execute(self, context: Context) -> dict[str, Any]:
        """Judge, record the verdict, and act on it."""
        from airflow_mlops_provider.steps.gate import judge_challenger

        with self.tracked_run(context) as run:
            champion = EvaluationReport.from_xcom(self.champion) if self.champion else None
            verdict = judge_challenger(
                EvaluationReport.from_xcom(self.challenger),
                champion,
                metric=self.metric,
                mode=self.mode,
                margin=float(self.margin),
                floors=self.floors,
                slice_floor=self.slice_floor,
                confidence=float(self.confidence),
            )
            run.log_record(verdict)
            if champion is not None:
                known = {name: metric.value for name, metric in champion.metrics.items()}
                run.log_champion(champion.model_uri, known)
        reasons = describe(verdict)
        self.log.info("Gate says %s:\n%s", verdict.outcome, reasons)
        # Failing or skipping ends execute() early, so the verdict is handed over first.
        context["ti"].xcom_push(key="return_value", value=verdict.to_xcom())
        if verdict.outcome == "refused":
            with failing_for_good():
                raise GateRefusedError(f"The gate refused {verdict.challenger_uri}:\n{reasons}")
        if verdict.outcome == "keep_champion":
            followers = self.get_direct_relatives(upstream=False)
            self.skip(context["ti"], [task for task in followers if not task.is_teardown])
        return verdict.to_xcom()


def describe(verdict: GateVerdict) -> str:
    """Return the reasons of a verdict, one a line."""
    return "\n".join(
        f"  {'ok ' if reason.passed else 'NO '} {reason.check}: {reason.detail} (n={reason.n})"
        for reason in verdict.reasons
    )
