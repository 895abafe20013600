"""Go back to the previous champion when the present one is shown to be worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops_provider.assets import model_asset
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.gate import describe
from airflow_mlops_provider.operators.provenance import pipeline_tags
from airflow_mlops_provider.records import DatasetRef, ModelVersionRef, MonitoringReport

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import RollbackVerdict
    from airflow_mlops_provider.steps.rollback import RollbackRule
    from airflow_mlops_provider.steps.track import TaskRun


class RollbackDegradedModelOperator(MlopsOperator):
    """Roll a degraded champion back to ``previous``, if that is proven better on live rows.

    Gives a ``RollbackVerdict`` with the evidence, whatever it is. The champion's logged scores are
    compared with what ``previous`` says of the same logged inputs, on rows whose labels came, by
    the confidence interval of the paired difference. Only if that lies wholly above ``margin`` the
    alias moves, and the endpoint's traffic with it; an ``AssetAlias`` among the outlets then
    receives an event of ``mlflow-model://name``. A retry does not go back twice.

    Args:
        champion: The ``ModelVersionRef`` in service. If another one is champion by the time the
            alias moves, the task fails for good.
        previous: The ``ModelVersionRef`` to go back to.
        labelled: The ``DatasetRef`` of labelled predictions; None if no label has come.
        report: The ``MonitoringReport``; by default that of the newest asset event that started
            the run. Without a performance signal in it the champion is kept.
        endpoint: Whose traffic moves as well; None moves the alias only.
        metric: What to compare.
        task: ``classification`` or ``regression``.
        margin: By how much ``previous`` has to be better, in units of ``metric``.
        confidence: Of the two-sided interval of the difference.
        min_rows: Labelled answers of the champion below which it is kept.
        score_column: Column of ``labelled`` with the score.
        label_column: Column of ``labelled`` with the truth.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "champion",
        "previous",
        "labelled",
        "report",
        "endpoint",
        "metric",
        "task",
        "margin",
        "confidence",
        "min_rows",
        "score_column",
        "label_column",
        "serving_conn_id",
    )

    def __init__(
        self,
        *,
        champion: Any,
        previous: Any,
        labelled: Any,
        report: Any = None,
        endpoint: str | None = None,
        metric: str = "auc",
        task: Literal["classification", "regression"] = "classification",
        margin: float = 0.0,
        confidence: float = 0.95,
        min_rows: int = 500,
        score_column: str = "score",
        label_column: str = "label",
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.champion = champion
        self.previous = previous
        self.labelled = labelled
        self.report = report
        self.endpoint = endpoint
        self.metric = metric
        self.task = task
        self.margin = margin
        self.confidence = confidence
        self.min_rows = min_rows
        self.score_column = score_column
        self.label_column = label_column
        self.serving_conn_id = serving_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Judge, and go back if that is proven better."""
        from airflow_mlops_provider.steps.rollback import judge_previous

        with self.tracked_run(context) as run:
            champion = ModelVersionRef.from_xcom(self.champion)
            previous = ModelVersionRef.from_xcom(self.previous)
            verdict = judge_previous(
                self._report(context),
                DatasetRef.from_xcom(self.labelled) if self.labelled else None,
                champion,
                previous,
                self._rule(),
            )
            if verdict.outcome == "rolled_back":
                verdict = self._go_back(context, run, champion, previous, verdict)
                self.emit_asset(context, model_asset(champion.name), previous)
            run.log_record(verdict)
        self.log.info("%s: %s\n%s", champion.model_uri, verdict.outcome, describe(verdict))
        return verdict.to_xcom()

    def _report(self, context: Context) -> MonitoringReport | None:
        """Return the report that was given, or that of the newest asset event."""
        if self.report:
            return MonitoringReport.from_xcom(self.report)
        events = list(context["dag_run"].consumed_asset_events)
        newest = max(events, key=lambda event: event.timestamp, default=None)
        return MonitoringReport.from_xcom(newest.extra) if newest else None

    def _rule(self) -> RollbackRule:
        from airflow_mlops_provider.steps.rollback import RollbackRule

        return RollbackRule(
            metric=self.metric,
            task=self.task,
            margin=float(self.margin),
            confidence=float(self.confidence),
            min_rows=int(self.min_rows),
            score_column=self.score_column,
            label_column=self.label_column,
        )

    def _go_back(
        self,
        context: Context,
        run: TaskRun,
        champion: ModelVersionRef,
        previous: ModelVersionRef,
        verdict: RollbackVerdict,
    ) -> RollbackVerdict:
        from airflow_mlops_provider.steps.rollback import go_back, told

        go_back(
            run.client,
            ServingHook(self.serving_conn_id).get_conn() if self.endpoint else None,
            self.endpoint,
            champion,
            previous,
            reason=told(verdict),
            by="/".join([*pipeline_tags(context).values(), self.task_id]),
        )
        return replace(verdict, endpoint=self.endpoint)
