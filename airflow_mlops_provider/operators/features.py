"""Feast feature views: apply them, take them online, join them to what was known when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.records import DatasetRef

if TYPE_CHECKING:
    from airflow.sdk import Context
    from feast import FeatureStore


class FeastOperator(MlopsOperator):
    """Base of the operators on a feature repository.

    Args:
        repo_path: Folder with ``feature_store.yaml`` and the definitions.
        feast_conn_id: Connection whose extra is laid over ``feature_store.yaml``.
    """

    feast_template_fields: ClassVar[Sequence[str]] = (
        *MlopsOperator.shared_template_fields,
        "repo_path",
        "feast_conn_id",
    )
    template_fields: Sequence[str] = feast_template_fields

    def __init__(
        self,
        *,
        repo_path: str,
        feast_conn_id: str = FeastHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.repo_path = repo_path
        self.feast_conn_id = feast_conn_id

    @property
    def store(self) -> FeatureStore:
        """The feature store, opened anew."""
        return FeastHook(self.feast_conn_id, self.repo_path, self.workspace_uri).get_conn()


class FeastApplyOperator(FeastOperator):
    """Register the definitions of a repository. Gives the names of its feature views."""

    def execute(self, context: Context) -> list[str]:
        """Apply the repository, as ``feast apply`` does."""
        from airflow_mlops_provider.steps.features import apply_features

        with self.tracked_run(context):
            views = apply_features(self.store, self.repo_path)
        self.log.info("Applied %s", views)
        return views


class FeastMaterializeOperator(FeastOperator):
    """Copy the newest features of a window into the online store. Gives the views' names.

    Args:
        start: First moment of the window, ISO 8601.
        end: Last moment of the window, ISO 8601.
        feature_views: Names; by default all views of the store.
    """

    template_fields: Sequence[str] = (
        *FeastOperator.feast_template_fields,
        "start",
        "end",
        "feature_views",
    )

    def __init__(
        self,
        *,
        start: Any = "{{ data_interval_start }}",
        end: Any = "{{ data_interval_end }}",
        feature_views: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.start = start
        self.end = end
        self.feature_views = feature_views

    def execute(self, context: Context) -> list[str]:
        """Materialize view by view."""
        from airflow_mlops_provider.steps.features import materialize

        with self.tracked_run(context):
            views = materialize(self.store, self.feature_views, self.start, self.end)
        self.log.info("Materialized %s from %s to %s", views, self.start, self.end)
        return views

    def on_kill(self) -> None:
        """Let the views be served that would stay in state MATERIALIZING."""
        from airflow_mlops_provider.steps.features import heal_views

        self.log.info("Healed %s", heal_views(self.store, self.feature_views))


class FeastHistoricalFeaturesOperator(FeastOperator):
    """Add to rows the features as they were known at their time. Gives a ``DatasetRef``.

    Args:
        entities: The ``DatasetRef`` of rows with join keys and ``event_timestamp``.
        name: Name of the dataset that is written.
        feature_service: Which features; or
        features: their references (``view:feature``).
    """

    template_fields: Sequence[str] = (
        *FeastOperator.feast_template_fields,
        "entities",
        "name",
        "feature_service",
        "features",
    )

    def __init__(
        self,
        *,
        entities: Any,
        name: str,
        feature_service: str | None = None,
        features: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.entities = entities
        self.name = name
        self.feature_service = feature_service
        self.features = features

    def execute(self, context: Context) -> dict[str, Any]:
        """Join, and write the dataset to the workspace."""
        from airflow_mlops_provider.steps.features import historical_features

        with self.tracked_run(context) as run:
            dataset = historical_features(
                self.store,
                DatasetRef.from_xcom(self.entities),
                name=self.name,
                workspace=self.workspace_uri,
                feature_service=self.feature_service,
                features=self.features,
            )
            run.log_dataset(dataset, "features")
            run.log_record(dataset)
        self.log.info("Joined %d columns to %d rows", len(dataset.columns), dataset.n_rows)
        return dataset.to_xcom()
