"""Judge a model on rows it never saw."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops_provider.exceptions import ModelError
from airflow_mlops_provider.links import EvaluationLink, MlflowRunLink
from airflow_mlops_provider.operators.isolated import IsolatedMlopsOperator
from airflow_mlops_provider.records import (
    DatasetRef,
    EvaluationReport,
    EvaluationSpec,
    ModelRef,
    UnusableModel,
)

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context

    from airflow_mlops_provider.steps.track import TaskRun

_PAGE = "evaluation.html"


class EvaluateModelOperator(IsolatedMlopsOperator):
    """Score a dataset with a model and measure it, overall and by slice.

    Gives an ``EvaluationReport``, with its page behind a button. A champion that need not exist
    (``optional``) gives None when there is none, and an ``UnusableModel`` when it cannot be judged
    any more, because its files or its columns are gone; the gate knows what to do with both.

    Args:
        model: A ``ModelRef``, or a model URI such as ``models:/name@champion``.
        dataset: The ``DatasetRef`` to be judged on.
        target: Column with the truth: 0 and 1, classes 0 to k - 1, or numbers.
        task_kind: ``classification`` or ``regression``.
        slices: Column names; ``{"column": …, "bins": 4}`` (quantiles) or ``{"column": …, "bins":
            [edges]}``; ``{"name": …, "where": "an expression over columns"}``.
        slice_metrics: What is measured in slices; by default the first metric of the task.
        min_slice_rows: Slices and groups with fewer rows are left out.
        threshold: From which probability class 1 is decided: a number, ``"f1"``, ``"cost"`` or
            ``{"recall": 0.8}``.
        costs: ``costs[i][j]``: cost of deciding class j when i is true; gives the metric ``cost``.
        fairness: Columns whose groups are to be treated alike.
        custom_metrics: Name to the import path of ``function(truth, score) -> float``, more is
            better.
        importance_repeats: How often each column is permuted; 0 leaves that out.
        golden: A ``DatasetRef`` of rows the model has to get right, judged apart.
        confidence: Of all intervals.
        seed: Of whatever is drawn.
        optional: A registry name without that version or alias is not an error.
    """

    template_fields: Sequence[str] = (
        *IsolatedMlopsOperator.shared_template_fields,
        "model",
        "dataset",
        "target",
        "task_kind",
        "slices",
        "slice_metrics",
        "min_slice_rows",
        "threshold",
        "costs",
        "fairness",
        "custom_metrics",
        "importance_repeats",
        "golden",
        "confidence",
        "seed",
        "optional",
    )
    operator_extra_links: Collection[BaseOperatorLink] = (MlflowRunLink(), EvaluationLink())

    def __init__(
        self,
        *,
        model: Any,
        dataset: Any,
        target: str,
        task_kind: Literal["classification", "regression"] = "classification",
        slices: Sequence[str | Mapping[str, Any]] = (),
        slice_metrics: Sequence[str] = (),
        min_slice_rows: int = 100,
        threshold: float | str | dict[str, float] = 0.5,
        costs: list[list[float]] | None = None,
        fairness: Sequence[str] = (),
        custom_metrics: dict[str, str] | None = None,
        importance_repeats: int = 0,
        golden: Any = None,
        confidence: float = 0.95,
        seed: int = 0,
        optional: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.dataset = dataset
        self.target = target
        self.task_kind = task_kind
        self.slices = slices
        self.slice_metrics = slice_metrics
        self.min_slice_rows = min_slice_rows
        self.threshold = threshold
        self.costs = costs
        self.fairness = fairness
        self.custom_metrics = custom_metrics
        self.importance_repeats = importance_repeats
        self.golden = golden
        self.confidence = confidence
        self.seed = seed
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
            report = self._judged(uri, run)
            run.log_record(report)
            if isinstance(report, EvaluationReport):
                self.link_artifact(context, run, EvaluationLink.xcom_key, _PAGE)
        return report.to_xcom()

    def _judged(self, uri: str, run: TaskRun) -> EvaluationReport | UnusableModel:
        spec, step = self.evaluation_spec(), "evaluate.judge.evaluate_model"
        try:
            report: EvaluationReport = self.run_step(
                step, uri, spec, workspace=self.workspace_uri, run=run
            )
        except ModelError as error:
            if not self.optional:
                raise
            self.log.warning("%s cannot be judged any more: %s", uri, error)
            return UnusableModel(model_uri=uri, reason=str(error))
        self.log.info("%s: %s", uri, {name: m.value for name, m in report.metrics.items()})
        return report

    def evaluation_spec(self) -> EvaluationSpec:
        """Return what to judge by, known once the task runs."""
        return EvaluationSpec(
            dataset=DatasetRef.from_xcom(self.dataset),
            target=self.target,
            task=self.task_kind,
            slices=[each if isinstance(each, str) else dict(each) for each in self.slices],
            slice_metrics=list(self.slice_metrics),
            min_slice_rows=int(self.min_slice_rows),
            threshold=self.threshold,
            costs=self.costs,
            fairness=list(self.fairness),
            custom_metrics=self.custom_metrics or {},
            importance_repeats=int(self.importance_repeats),
            golden=DatasetRef.from_xcom(self.golden) if self.golden else None,
            confidence=float(self.confidence),
            seed=int(self.seed),
        )
