"""Judge a model on rows it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops_provider.operators.isolated import IsolatedMlopsOperator
from airflow_mlops_provider.records import DatasetRef, ModelRef

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import EvaluationReport


class EvaluateModelOperator(IsolatedMlopsOperator):
    """Score a dataset with a model and measure it, overall and by slice.

    Gives an ``EvaluationReport``; None when ``model`` names an alias that no version has and
    ``optional`` is set (a champion before the first model, say).

    Args:
        model: A ``ModelRef``, or a model URI such as ``models:/name@champion``.
        dataset: The ``DatasetRef`` to be judged on.
        target: Column with the truth.
        task_kind: ``classification`` or ``regression``.
        slices: Columns by whose values the first metric is also computed.
        min_slice_rows: Slices with fewer rows are left out.
        optional: A registry name without that version or alias is not an error.
    """

    template_fields: Sequence[str] = (
        *IsolatedMlopsOperator.shared_template_fields,
        "model",
        "dataset",
        "target",
        "task_kind",
        "slices",
        "min_slice_rows",
        "optional",
    )

    def __init__(
        self,
        *,
        model: Any,
        dataset: Any,
        target: str,
        task_kind: Literal["classification", "regression"] = "classification",
        slices: Sequence[str] = (),
        min_slice_rows: int = 100,
        optional: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.dataset = dataset
        self.target = target
        self.task_kind = task_kind
        self.slices = slices
        self.min_slice_rows = min_slice_rows
        self.optional = optional

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Evaluate, and log the figures."""
        from airflow_mlops_provider.steps.register import model_uri

        with self.tracked_run(context) as run:
            given = self.model if isinstance(self.model, str) else ModelRef.from_xcom(self.model)
            uri = model_uri(run.client, given, optional=self.optional)
            if uri is None:
                self.log.info("No model at %s yet: nothing to evaluate", self.model)
                return None
            report: EvaluationReport = self.run_step(
                "evaluate.evaluate_model",
                uri,
                DatasetRef.from_xcom(self.dataset),
                target=self.target,
                workspace=self.workspace_uri,
                run=run,
                task=self.task_kind,
                slices=self.slices,
                min_slice_rows=int(self.min_slice_rows),
            )
            run.log_record(report)
        self.log.info("%s: %s", uri, {name: m.value for name, m in report.metrics.items()})
        return report.to_xcom()
