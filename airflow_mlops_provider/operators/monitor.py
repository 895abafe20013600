"""Say how the model does on live traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.assets import alert_asset, drift_asset, performance_asset
from airflow_mlops_provider.links import MonitoringLink
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.records import DatasetRef, ModelVersionRef, PredictionBatchRef

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

_ASSETS = {"drift": drift_asset, "performance": performance_asset}


class MonitorModelOperator(MlopsOperator):
    """Report on an endpoint's live traffic. Gives a ``MonitoringReport``.

    The report is kept by its window, and that of the newest window is what
    ``ModelPerformanceSensor`` waits for. Its figures are metrics of the task's MLflow run and, as
    a chart over the windows, of the endpoint's run; its page is an artifact. For the signals in it
    an ``AssetAlias`` among the outlets receives events of ``mlops-drift://endpoint``,
    ``mlops-performance://endpoint`` and, once for all others, ``mlops-alert://endpoint``, each
    with the shortened report as its extra. A retry emits them again, with the same window.

    Args:
        endpoint: Name of the endpoint.
        predictions: The ``PredictionBatchRef`` of its compacted log.
        labelled: The ``DatasetRef`` of labelled predictions; None if no label has come.
        model_version: The ``ModelVersionRef`` to look at; it knows its ``profile_uri``,
            ``baseline``, ``reference_predictions`` and ``model_uri``, which need not be given.
        profile_uri: Drift profile of the training data; without it drift is not looked at.
        max_drifted_share: From this share of drifted features on, the inputs drifted.
        baseline: The AUC, or of a regression the RMSE, that the model was promoted with: a number
            or a ``Metric``.
        score_column: Column of ``labelled`` with the score of class 1, or the predicted number.
        label_column: Column of ``labelled`` with the truth: 0 or 1, or a number.
        max_drop: How far the AUC may fall below the baseline; the RMSE may rise by this share.
        min_rows: Predictions, or labelled ones, below which a finding is unknown.
        model_uri: Look only at predictions of this model, as the log names it.
        task: ``classification`` or ``regression``.
        window: Length of the window to look at, such as ``"1d"`` or seconds; it ends with the run's
            data interval, or when the run was due. By default all of ``predictions``.
        offset: End the window so much earlier, for labels to come.
        reference: ``training``, or ``previous`` to compare with the window before instead.
        reference_predictions: Parquet with ``score`` and ``target`` on held-out data, for
            prediction drift and for the estimate (``EvaluationReport.predictions_uri``).
        consecutive: For so many windows in a row a threshold has to be crossed to raise a signal.
        thresholds: Name to what is used instead of its default in ``steps/monitor/settings.py``;
            None looks at nothing.
        segments: Inputs or columns of the log whose values are reported one by one.
        fairness: Inputs or columns whose groups are to be treated alike.
        decision_threshold: The score from which on class 1 is decided, for fairness.
        attribution: Whether to ask the model how it weighs its inputs, which loads it.
        kpis: Name of a business figure to ``{"sql": ..., "conn_id": ...}``, where
            ``:window_start`` and ``:window_end`` are bound, or to ``{"callable": "pkg.function"}``;
            either with ``min`` and ``max`` if these are to be watched.
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
        "task",
        "window",
        "offset",
        "reference",
        "reference_predictions",
        "consecutive",
        "thresholds",
        "segments",
        "fairness",
        "decision_threshold",
        "attribution",
        "kpis",
    )
    operator_extra_links = (*MlopsOperator.operator_extra_links, MonitoringLink())

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
        task: str = "classification",
        window: timedelta | float | str | None = None,
        offset: timedelta | float | str | None = None,
        reference: str = "training",
        reference_predictions: str | None = None,
        consecutive: int = 1,
        thresholds: Mapping[str, float | None] | None = None,
        segments: Sequence[str] = (),
        fairness: Sequence[str] = (),
        decision_threshold: float = 0.5,
        attribution: bool = False,
        kpis: Mapping[str, Mapping[str, Any]] | None = None,
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
        self.task = task
        self.window = window
        self.offset = offset
        self.reference = reference
        self.reference_predictions = reference_predictions
        self.consecutive = consecutive
        self.thresholds = thresholds
        self.segments = segments
        self.fairness = fairness
        self.decision_threshold = decision_threshold
        self.attribution = attribution
        self.kpis = kpis

    def execute(self, context: Context) -> dict[str, Any]:
        """Report, keep the report and emit its signals."""
        from airflow_mlops_provider.hooks.sql import stream_query
        from airflow_mlops_provider.steps.monitor.check import check_model
        from airflow_mlops_provider.steps.monitor.tracking import PAGE, log_check
        from airflow_mlops_provider.steps.reports import shortened

        with self.tracked_run(context) as run:
            self.link_artifact(context, run, MonitoringLink.xcom_key, PAGE)
            due = context["dag_run"]
            check = check_model(
                PredictionBatchRef.from_xcom(self.predictions),
                DatasetRef.from_xcom(self.labelled) if self.labelled else None,
                endpoint=self.endpoint,
                workspace=self.workspace_uri,
                due=due.data_interval_end or due.run_after,
                reported_at=datetime.now(UTC),
                window=self.window or None,
                offset=self.offset or None,
                consecutive=int(self.consecutive),
                kpis=self.kpis,
                query=stream_query,
                max_drifted_share=float(self.max_drifted_share),
                score_column=self.score_column,
                label_column=self.label_column,
                max_drop=float(self.max_drop),
                min_rows=int(self.min_rows),
                task=self.task,
                reference=self.reference,
                thresholds=self.thresholds,
                segments=self.segments,
                fairness=self.fairness,
                decision_threshold=float(self.decision_threshold),
                attribution=self.attribution,
                **self._promised(),
            )
            log_check(run, check)
        report = check.report
        self.log.info("Signals %s of %s: %s", report.signals, self.endpoint, report.reasons)
        for asset in signal_assets(self.endpoint, report.signals):
            self.emit_asset(context, asset, shortened(report))
        return report.to_xcom()

    def _promised(self) -> dict[str, Any]:
        """Return what the model is compared with, as given or as its version knows."""
        from airflow_mlops_provider.steps.register import Promise, promise_of

        version, metric = self.model_version, "rmse" if self.task == "regression" else "auc"
        known = promise_of(ModelVersionRef.from_xcom(version), metric) if version else Promise()
        return {
            "profile_uri": self.profile_uri or known.profile_uri,
            "baseline": known.baseline if self.baseline is None else self.baseline,
            "model_uri": self.model_uri or known.model_uri,
            "reference_predictions": self.reference_predictions or known.predictions_uri,
        }


def signal_assets(endpoint: str, signals: Sequence[str]) -> list[Asset]:
    """Return the assets that signals are events of, each once."""
    found = {name: asset(endpoint) for name, asset in _ASSETS.items() if name in signals}
    if set(signals) - _ASSETS.keys():
        found["alert"] = alert_asset(endpoint)
    return [*found.values()]
