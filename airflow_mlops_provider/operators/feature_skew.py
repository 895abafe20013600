"""Check that serving sees the features that training sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.operators.features import FeastOperator
from airflow_mlops_provider.records import DatasetRef, FeatureSkewReport, PredictionBatchRef

if TYPE_CHECKING:
    from airflow.sdk import Context

PAGE = "feature_skew.html"


class CheckFeatureSkewOperator(FeastOperator):
    """Compare features in serving with those in training. Gives a ``FeatureSkewReport``.

    Skew fails the task for good, without retries, unless ``fail_on_skew`` is false; the report is
    then under the XCom key ``report``, and as ``feature_skew.html`` in the MLflow run.

    Args:
        entities: Mode ``online``: the ``DatasetRef`` of rows with the join keys.
        predictions: Mode ``logged``: the ``PredictionBatchRef`` of the compacted log.
        mode: ``online`` compares the online store, ``logged`` what the prediction log holds.
        feature_service: Which features; or
        features: their references (``view:feature``).
        at: Mode ``online``: the moment to look from; the end of the last materialized window.
        keys: Mode ``logged``: join key to the column of the log that holds it.
        tolerance: Relative difference up to which floats are the same.
        max_share: Share of rows of a feature that may differ.
        count_expired: Mode ``online``: whether a value beyond its view's TTL, which training
            does not see, is a difference.
        fail_on_skew: Whether skew fails the task.
    """

    template_fields: Sequence[str] = (
        *FeastOperator.feast_template_fields,
        "entities",
        "predictions",
        "mode",
        "feature_service",
        "features",
        "at",
        "keys",
        "tolerance",
        "max_share",
        "count_expired",
        "fail_on_skew",
    )

    def __init__(
        self,
        *,
        entities: Any = None,
        predictions: Any = None,
        mode: Literal["online", "logged"] = "online",
        feature_service: str | None = None,
        features: Sequence[str] | None = None,
        at: Any = "{{ data_interval_end }}",
        keys: Mapping[str, str] | None = None,
        tolerance: float = 1e-6,
        max_share: float = 0.0,
        count_expired: bool = True,
        fail_on_skew: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.entities = entities
        self.predictions = predictions
        self.mode = mode
        self.feature_service = feature_service
        self.features = features
        self.at = at
        self.keys = keys
        self.tolerance = tolerance
        self.max_share = max_share
        self.count_expired = count_expired
        self.fail_on_skew = fail_on_skew

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare, and keep the report as a page."""
        from airflow_mlops_provider.steps.features.skew import skew_page

        with self.tracked_run(context) as run:
            report = self._compared()
            run.log_record(report)
            run.log_page(skew_page(report), PAGE)
            context["ti"].xcom_push(key="report", value=report.to_xcom())
            if report.verdict == "skewed" and self.fail_on_skew:
                raise DataError(_told(report))
        self.log.info(
            "%s: %d of %d features are skewed",
            report.verdict,
            len(report.skewed),
            report.n_features,
        )
        return report.to_xcom()

    def _compared(self) -> FeatureSkewReport:
        from airflow_mlops_provider.steps.features.skew import compare_logged, compare_online

        common: dict[str, Any] = {
            "feature_service": self.feature_service,
            "features": self.features,
            "tolerance": float(self.tolerance),
            "max_share": float(self.max_share),
        }
        if self.mode == "online":
            entities = DatasetRef.from_xcom(self.entities)
            return compare_online(
                self.store, entities, at=self.at, count_expired=self.count_expired, **common
            )
        if self.mode == "logged":
            predictions = PredictionBatchRef.from_xcom(self.predictions)
            return compare_logged(self.store, predictions, keys=self.keys, **common)
        raise ParameterError.of("mode", self.task_type, "'online' or 'logged'", self.mode)


def _told(report: FeatureSkewReport) -> str:
    shown = "; ".join(
        f"{each.feature} ({each.share:.1%} of {each.n} rows, {each.offline_type} offline and "
        f"{each.online_type} online)"
        for each in report.features[:3]
        if each.verdict == "skewed"
    )
    return (
        f"{len(report.skewed)} of {report.n_features} features are not served as training sees "
        f"them, more than max_share={report.max_share:g} allows: {shown}. Materialize the window "
        f"again, or correct what computes the feature in serving; {PAGE} in the MLflow run has "
        "examples."
    )
