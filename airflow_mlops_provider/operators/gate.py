"""The promotion gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import SkipMixin

from airflow_mlops_provider.exceptions import GateRefusedError, ParameterError
from airflow_mlops_provider.operators.base import MlopsOperator, failing_for_good
from airflow_mlops_provider.records import (
    ArtifactCheck,
    BehaviourReport,
    EvaluationReport,
    UnusableModel,
    ValidationReport,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import GateReason, GateVerdict, RollbackVerdict
    from airflow_mlops_provider.steps.gate import Rule


ON_REFUSAL = ("fail", "skip")


class ValidateModelOperator(MlopsOperator, SkipMixin):
    """Let a challenger pass only if it holds the floors and is shown to be good enough.

    Gives a ``GateVerdict``. ``keep_champion`` (sound, but not shown better) skips what is
    downstream, save teardowns; ``refused`` (a floor is broken) fails the task for good, unless
    ``on_refusal`` says otherwise.

    Args:
        challenger: The challenger's ``EvaluationReport``.
        champion: The champion's on the same rows; None before the first model.
        metric: What to compare: any metric of the evaluation.
        mode: ``superiority`` or ``non_inferiority``.
        margin: Margin of the comparison, in units of ``metric``.
        floors: The worst value allowed of a metric, or of ``golden.METRIC``,
            ``fairness.COLUMN.FIGURE``, ``cost.FIGURE`` (``cost.latency_p95_ms``) or
            ``calibration_error``.
        slice_floor: The worst value allowed in any slice, of the metric that slices show.
        confidence: Of the two-sided interval of the difference.
        data: ``ValidationReport`` or a list of them: a skewed schema refuses the challenger.
        behaviour: ``BehaviourReport`` or a list of them: a critical test that did not pass
            refuses the challenger.
        artifact: ``ArtifactCheck`` or a list of them: other answers in a clean process refuse the
            challenger.
        replace_unusable_champion: Whether a champion that cannot be judged any more (an
            ``UnusableModel``) may be replaced on the floors alone; else the gate refuses, and a
            person has to look.
        on_refusal: ``fail``, or ``skip`` to end a refusal as ``keep_champion`` ends: nobody has to
            look at a retraining that is worth nothing.
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
        "data",
        "behaviour",
        "artifact",
        "replace_unusable_champion",
        "on_refusal",
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
        data: Any = (),
        behaviour: Any = (),
        artifact: Any = (),
        replace_unusable_champion: bool = False,
        on_refusal: Literal["fail", "skip"] = "fail",
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
        self.data = data
        self.behaviour = behaviour
        self.artifact = artifact
        self.replace_unusable_champion = replace_unusable_champion
        self.on_refusal = on_refusal

    def execute(self, context: Context) -> dict[str, Any]:
        """Judge, record the verdict, and act on it."""
        from airflow_mlops_provider.steps.gate import judge_challenger

        with self.tracked_run(context) as run:
            if self.on_refusal not in ON_REFUSAL:
                constraint = "'fail' or 'skip'"
                raise ParameterError.of("on_refusal", "gate", constraint, self.on_refusal)
            champion = _judged(self.champion)
            verdict = judge_challenger(
                EvaluationReport.from_xcom(self.challenger),
                champion,
                self.rule(),
                evidence=self.evidence(),
            )
            run.log_record(verdict)
            if isinstance(champion, EvaluationReport):
                known = {name: metric.value for name, metric in champion.metrics.items()}
                run.log_champion(champion.model_uri, known)
        reasons = describe(verdict)
        self.log.info("Gate says %s:\n%s", verdict.outcome, reasons)
        # Failing or skipping ends execute() early, so the verdict is handed over first.
        context["ti"].xcom_push(key="return_value", value=verdict.to_xcom())
        if verdict.outcome == "refused" and self.on_refusal == "fail":
            with failing_for_good():
                raise GateRefusedError(f"The gate refused {verdict.challenger_uri}:\n{reasons}")
        if verdict.outcome != "promote":
            followers = self.get_direct_relatives(upstream=False)
            self.skip(context["ti"], [task for task in followers if not task.is_teardown])
        return verdict.to_xcom()

    def rule(self) -> Rule:
        """Return what is asked of the challenger, known once the task runs."""
        from airflow_mlops_provider.steps.gate import Rule

        return Rule(
            metric=self.metric,
            mode=self.mode,
            margin=float(self.margin),
            floors=self.floors or {},
            slice_floor=self.slice_floor,
            confidence=float(self.confidence),
            replace_unusable_champion=bool(self.replace_unusable_champion),
        )

    def evidence(self) -> list[GateReason]:
        """Return what other checks found."""
        from airflow_mlops_provider.steps.gate import (
            artifact_evidence,
            behaviour_evidence,
            data_evidence,
        )

        data = ValidationReport.several_from_xcom(self.data)
        behaviour = BehaviourReport.several_from_xcom(self.behaviour)
        artifact = ArtifactCheck.several_from_xcom(self.artifact)
        return [
            *map(data_evidence, data),
            *map(artifact_evidence, artifact),
            *(reason for report in behaviour for reason in behaviour_evidence(report)),
        ]


def _judged(champion: Any) -> EvaluationReport | UnusableModel | None:
    if not champion:
        return None
    unusable = isinstance(champion, Mapping) and "reason" in champion
    return (UnusableModel if unusable else EvaluationReport).from_xcom(champion)


def describe(verdict: GateVerdict | RollbackVerdict) -> str:
    """Return the reasons of a verdict, one a line."""
    return "\n".join(
        f"  {'ok ' if reason.passed else 'NO '} {reason.check}: {reason.detail} (n={reason.n})"
        for reason in verdict.reasons
    )
