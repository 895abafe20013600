"""Say how the model does on live traffic."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.assets import drift_asset, performance_asset
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.records import DatasetRef, ModelVersionRef, PredictionBatchRef

if TYPE_CHECKING:
    from airflow.sdk import Context

_ASSETS = {"drift": drift_asset, "performance": performance_asset}


class MonitorModelOperator(MlopsOperator):
    """Report on an endpoint's live traffic. Gives a ``MonitoringReport``.

    The report becomes the endpoint's newest one, which ``ModelPerformanceSensor`` waits for. For
    each signal in it an ``AssetAlias`` among the outlets receives an event of
    ``mlops-drift://endpoint`` or ``mlops-performance://endpoint``, with the report as its extra.

    Args:
        endpoint: Name of the endpoint.
        predictions: The ``PredictionBatchRef`` of its compacted log.
        labelled: The ``DatasetRef`` of labelled predictions; None if no label has come.
        model_version: The ``ModelVersionRef`` to look at; it knows its ``profile_uri``,
            ``baseline`` and ``model_uri``, which need not be given then.
        profile_uri: Drift profile of the training data; without it drift is not looked at.
        max_drifted_share: From this share of drifted features on, the inputs drifted.
        baseline: The AUC the model was promoted with: a number or a ``Metric``.
        score_column: Column of ``labelled`` with the score of class 1.
        label_column: Column of ``labelled`` with the truth, 0 or 1.
        max_drop: How far the AUC may fall below the baseline.
        min_rows: Labelled predictions below which no performance signal is raised.
        model_uri: Look only at predictions of this model, as the log names it.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "endpoint",
        "predictions",
        "labelled",
        "model_version",
        "profile_uri",
        "max_drifted_share",
        "baseline",
        "score_column",
        "label_column",
        "max_drop",
        "min_rows",
        "model_uri",
    )

    def __init__(
        self,
        *,
        endpoint: str,
        predictions: Any,
        labelled: Any = None,
        model_version: Any = None,
        profile_uri: str | None = None,
        max_drifted_share: float = 0.3,
        baseline: Any = None,
        score_column: str = "score",
        label_column: str = "label",
        max_drop: float = 0.02,
        min_rows: int = 500,
        model_uri: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.predictions = predictions
        self.labelled = labelled
        self.model_version = model_version
        self.profile_uri = profile_uri
        self.max_drifted_share = max_drifted_share
        self.baseline = baseline
        self.score_column = score_column
        self.label_column = label_column
        self.max_drop = max_drop
        self.min_rows = min_rows
        self.model_uri = model_uri

    def execute(self, context: Context) -> dict[str, Any]:
        """Report, publish the report and emit its signals."""
        from airflow_mlops_provider.steps.monitor import monitor_model
        from airflow_mlops_provider.steps.register import Promise, promise_of
        from airflow_mlops_provider.steps.reports import publish_report, shortened

        with self.tracked_run(context) as run:
            version = self.model_version
            known = promise_of(ModelVersionRef.from_xcom(version)) if version else Promise()
            report = monitor_model(
                PredictionBatchRef.from_xcom(self.predictions),
                DatasetRef.from_xcom(self.labelled) if self.labelled else None,
                endpoint=self.endpoint,
                profile_uri=self.profile_uri or known.profile_uri,
                max_drifted_share=float(self.max_drifted_share),
                baseline=known.baseline if self.baseline is None else self.baseline,
                score_column=self.score_column,
                label_column=self.label_column,
                max_drop=float(self.max_drop),
                min_rows=int(self.min_rows),
                model_uri=self.model_uri or known.model_uri,
            )
            run.log_record(report)
            run.log_metrics({name: metric.value for name, metric in report.performance.items()})
            publish_report(report, workspace=self.workspace_uri, reported_at=datetime.now(UTC))
        self.log.info("Signals %s of %s: %s", report.signals, self.endpoint, report.reasons)
        for signal in report.signals:
            self.emit_asset(context, _ASSETS[signal](self.endpoint), shortened(report))
        return report.to_xcom()
