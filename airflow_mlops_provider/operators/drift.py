"""Keep the profile of a dataset, and say whether later data drifted from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from airflow_mlops_provider.assets import drift_asset
from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.links import DriftReportLink
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.branch import BranchOnOutcome
from airflow_mlops_provider.records import DatasetRef, ModelVersionRef

if TYPE_CHECKING:
    from airflow.sdk import Context


class ProfileDatasetOperator(MlopsOperator):
    """Keep what later data is measured against: a drift profile and a baseline suite.

    Gives ``{"profile_uri": ..., "suite_uri": ...}``, and each URI also under its XCom key. The
    suite is inferred from the data (schema, null rates, ranges, value sets) and meant to be
    reviewed: it is the artifact ``suite.yaml``.

    Args:
        dataset: The ``DatasetRef`` of the reference, usually the training part.
        columns: Columns to profile; by default all that can be.
        segments: Columns whose values are compared one by one later on.
        sample_rows: Rows to keep for the domain classifier and Evidently's page; by default none.
        suite_name: Name of the suite; by default the dataset's.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "dataset",
        "columns",
        "segments",
        "sample_rows",
        "suite_name",
    )

    def __init__(
        self,
        *,
        dataset: Any,
        columns: Sequence[str] | None = None,
        segments: Sequence[str] = (),
        sample_rows: int = 0,
        suite_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.columns = columns
        self.segments = segments
        self.sample_rows = sample_rows
        self.suite_name = suite_name

    def execute(self, context: Context) -> dict[str, str]:
        """Write profile and suite to the workspace."""
        from airflow_mlops_provider.steps.profile import keep_reference, log_reference

        with self.tracked_run(context) as run:
            reference = keep_reference(
                DatasetRef.from_xcom(self.dataset),
                workspace=self.workspace_uri,
                columns=self.columns,
                segments=self.segments,
                sample_rows=int(self.sample_rows),
                suite_name=self.suite_name,
            )
            log_reference(run, reference)
        uris = {"profile_uri": reference.profile_uri, "suite_uri": reference.suite_uri}
        self.log.info("What to measure against: %s", uris)
        for key, uri in uris.items():
            context["ti"].xcom_push(key=key, value=uri)
        return uris


class DetectDriftOperator(MlopsOperator):
    """Compare data with a profile. Gives a ``DriftReport``; drift fails nothing.

    The report and a picture of each drifted feature are artifacts of the task's MLflow run. Only
    if the data drifted for ``consecutive`` windows in a row, an ``AssetAlias`` among the outlets
    receives an event of ``mlops-drift://name`` with the report as its extra.

    Args:
        dataset: The ``DatasetRef`` of the newer rows.
        source: Path, glob or fsspec URI of Parquet or CSV files to look at instead.
        profile_uri: What ``ProfileDatasetOperator`` gave.
        model_version: The ``ModelVersionRef`` whose profile to use instead: what it learned from.
        columns: Features to look at; by default all of the profile.
        max_share: Share of drifted features from which on the data drifted.
        weights: Feature name to its weight in that share, where features that are not named
            then count nothing; by default all weigh the same.
        domain_classifier: Also train a classifier that tells new rows from reference rows; the
            profile has to have a sample.
        consecutive: From so many drifted windows in a row on, retraining is asked for.
        window: End of the window, ISO 8601, by which windows are in order and a retry replaces
            its check; by default the dataset's ``window_end``, or the end of the run's data
            interval, or the time the run was due.
        name: What the windows are windows of, also in the asset; by default the dataset's name.
        renderer: ``html``, or ``evidently`` for a page of that package instead of ours.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "dataset",
        "source",
        "profile_uri",
        "model_version",
        "columns",
        "max_share",
        "weights",
        "domain_classifier",
        "consecutive",
        "window",
        "name",
        "renderer",
    )
    operator_extra_links = (*MlopsOperator.operator_extra_links, DriftReportLink())

    def __init__(
        self,
        *,
        profile_uri: str | None = None,
        model_version: Any = None,
        dataset: Any = None,
        source: str | None = None,
        columns: Sequence[str] | None = None,
        max_share: float = 0.3,
        weights: Mapping[str, float] | None = None,
        domain_classifier: bool = False,
        consecutive: int = 2,
        window: str | None = None,
        name: str | None = None,
        renderer: str = "html",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.profile_uri = profile_uri
        self.model_version = model_version
        self.dataset = dataset
        self.source = source
        self.columns = columns
        self.max_share = max_share
        self.weights = weights
        self.domain_classifier = domain_classifier
        self.consecutive = consecutive
        self.window = window
        self.name = name
        self.renderer = renderer

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare, keep what a person looks at, and tell the DAGs that wait for drift."""
        from airflow_mlops_provider.steps.drift.check import PAGE, check_drift, log_check
        from airflow_mlops_provider.steps.reports import shortened_drift

        with self.tracked_run(context) as run:
            self.link_artifact(context, run, DriftReportLink.xcom_key, PAGE)
            current = self._current()
            check = check_drift(
                current,
                self._profile(),
                columns=self.columns,
                max_share=float(self.max_share),
                weights=self.weights,
                domain_classifier=self.domain_classifier,
                consecutive=int(self.consecutive),
                window=self._window_end(current, context),
                name=self.name,
                renderer=self.renderer,
                workspace=self.workspace_uri,
                checked_at=datetime.now(UTC),
            )
            log_check(run, check)
        report = check.report
        self.log.info(
            "%s: %.0f%% of features drifted, %d windows in a row",
            report.verdict,
            100 * report.share_drifted,
            report.streak,
        )
        if report.retrain:
            self.emit_asset(context, drift_asset(check.name), shortened_drift(report))
        return report.to_xcom()

    def _current(self) -> DatasetRef | str:
        if bool(self.dataset) == bool(self.source):
            raise ParameterError.of(
                "source",
                "DetectDriftOperator",
                "given if, and only if, dataset is not",
                self.source,
            )
        return self.source or DatasetRef.from_xcom(self.dataset)

    def _profile(self) -> str:
        if bool(self.profile_uri) == bool(self.model_version):
            raise ParameterError(
                "DetectDriftOperator needs exactly one of profile_uri and model_version. Got "
                f"{self.profile_uri!r} and {self.model_version!r}; give one."
            )
        if self.profile_uri:
            return self.profile_uri
        from airflow_mlops_provider.steps.register import promise_of

        version = ModelVersionRef.from_xcom(self.model_version)
        profile = promise_of(version).profile_uri
        if profile is None:
            raise AirflowSkipException(
                f"{version.model_uri} was registered without a profile: nothing to compare with."
            )
        return profile

    def _window_end(self, current: DatasetRef | str, context: Context) -> str:
        """Return what every attempt of the task sees alike."""
        known = current.window_end if isinstance(current, DatasetRef) else None
        run = context["dag_run"]
        return str(self.window or known or run.data_interval_end or run.run_after)


class DetectDriftBranchOperator(BranchOnOutcome, DetectDriftOperator):
    """Compare data with a profile, and go on with the tasks that belong to the outcome.

    ``retrain``: drifted for ``consecutive`` windows in a row; ``drifted``: not for so many yet;
    ``stable``; ``insufficient_data``. See ``DetectDriftOperator`` for the other arguments.

    Args:
        follow: Outcome to the id or ids of tasks or task groups directly downstream; within a
            task group its own come first.
    """

    template_fields: Sequence[str] = (*DetectDriftOperator.template_fields, "follow")
    outcomes = ("retrain", "drifted", "stable", "insufficient_data")

    def __init__(self, *, follow: Mapping[str, str | Sequence[str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.follow = follow

    def outcome_of(self, record: Mapping[str, Any]) -> str:
        """Return ``retrain``, or else the verdict."""
        return "retrain" if record["retrain"] else str(record["verdict"])
