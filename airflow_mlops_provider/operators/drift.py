"""Keep the profile of a dataset, and say whether later data drifted from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.assets import drift_asset
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.records import DatasetRef

if TYPE_CHECKING:
    from airflow.sdk import Context


class ProfileDatasetOperator(MlopsOperator):
    """Keep what drift is later measured against.

    Gives ``{"profile_uri": ...}``, and the URI also under the XCom key ``profile_uri``.

    Args:
        dataset: The ``DatasetRef`` of the reference, usually the training part.
        columns: Numeric, boolean or text columns; by default all of these.
    """

    template_fields: Sequence[str] = (*MlopsOperator.shared_template_fields, "dataset", "columns")

    def __init__(
        self, *, dataset: Any, columns: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.columns = columns

    def execute(self, context: Context) -> dict[str, str]:
        """Write the profile to the workspace."""
        from airflow_mlops_provider.steps.drift import profile_dataset

        with self.tracked_run(context) as run:
            uri = profile_dataset(
                DatasetRef.from_xcom(self.dataset), self.columns, self.workspace_uri
            )
            run.client.set_tag(run.run_id, "mlops.profile_uri", uri)
        self.log.info("The profile lies at %s", uri)
        context["ti"].xcom_push(key="profile_uri", value=uri)
        return {"profile_uri": uri}


class DetectDriftOperator(MlopsOperator):
    """Compare a dataset with a profile. Gives a ``DriftReport``; drift fails nothing.

    Only if the dataset drifted, an ``AssetAlias`` among the outlets receives an event of
    ``mlops-drift://name`` with the report as its extra.

    Args:
        dataset: The ``DatasetRef`` of the newer rows.
        profile_uri: What ``ProfileDatasetOperator`` gave.
        columns: Features to look at; by default all of the profile.
        max_share: Share of drifted features from which on the dataset drifted.
        name: Name in the asset; by default the dataset's.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "dataset",
        "profile_uri",
        "columns",
        "max_share",
        "name",
    )

    def __init__(
        self,
        *,
        dataset: Any,
        profile_uri: str,
        columns: Sequence[str] | None = None,
        max_share: float = 0.3,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.profile_uri = profile_uri
        self.columns = columns
        self.max_share = max_share
        self.name = name

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare, and tell the DAGs that wait for drift."""
        from airflow_mlops_provider.steps.drift import detect_drift

        with self.tracked_run(context) as run:
            dataset = DatasetRef.from_xcom(self.dataset)
            report = detect_drift(
                dataset,
                self.profile_uri,
                columns=self.columns,
                max_share=float(self.max_share),
            )
            run.log_record(report)
        self.log.info("%s: %.0f%% of features drifted", report.verdict, 100 * report.share_drifted)
        if report.verdict == "drifted":
            self.emit_asset(context, drift_asset(self.name or dataset.name), report)
        return report.to_xcom()
