"""Feast feature views: apply them, join them to what was known when, push rows to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.links import DataCardLink
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.snapshot import CARD, how_taken
from airflow_mlops_provider.records import DatasetRef, ModelVersionRef

if TYPE_CHECKING:
    from airflow.sdk import Context
    from feast import FeatureStore

    from airflow_mlops_provider.steps.features.repo import FeaturePlan

FEATURE_SERVICE_KEY = "feature_service"


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
    """Register the definitions of a repository. Gives the names of its feature views.

    What is about to change goes to the log and, as ``feast_plan.txt``, to the task's MLflow run.

    Args:
        allow_destructive: Also remove views, entities, services and features that are no longer
            defined, and change types; otherwise such a plan fails the task for good, and nothing
            is changed.
    """

    template_fields: Sequence[str] = (*FeastOperator.feast_template_fields, "allow_destructive")

    def __init__(self, *, allow_destructive: Any = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allow_destructive = allow_destructive

    def execute(self, context: Context) -> list[str]:
        """Apply the repository, as ``feast apply`` does."""
        from airflow_mlops_provider.steps.features.repo import PLAN_FILE, apply_features

        def show(plan: FeaturePlan) -> None:
            self.log.info("Changes to the feature store:\n%s", plan)
            run.client.log_text(run.run_id, str(plan), PLAN_FILE)

        with self.tracked_run(context) as run:
            views = apply_features(
                self.store,
                self.repo_path,
                allow_destructive=as_bool(self.allow_destructive),
                show=show,
            )
        self.log.info("Applied %s", views)
        return views


class FeastHistoricalFeaturesOperator(FeastOperator):
    """Add to rows the features as they were known at their time. Gives a ``DatasetRef``.

    The XCom ``feature_service`` pins the feature service, for ``RegisterModelOperator``.

    Args:
        entities: Rows with join keys and ``event_timestamp``: a ``DatasetRef``, or a function
            that returns a pandas frame; or
        entities_sql: a query for them, sent to
        conn_id: this Connection of a database, with
        parameters: the values of the query's ``:name``.
        name: Name of the dataset that is written. Rows of a function or query are kept as
            ``{name}_entities``.
        feature_service: Which features; or
        features: their references (``view:feature``).
        check_rows: How many rows to check for features that are newer than their row, by a
            second join from the raw sources; 0 checks none.
    """

    template_fields: Sequence[str] = (
        *FeastOperator.feast_template_fields,
        "entities",
        "entities_sql",
        "conn_id",
        "parameters",
        "name",
        "feature_service",
        "features",
        "check_rows",
    )
    operator_extra_links = (*MlopsOperator.operator_extra_links, DataCardLink())

    def __init__(
        self,
        *,
        name: str,
        entities: Any = None,
        entities_sql: str | None = None,
        conn_id: str | None = None,
        parameters: Any = None,
        feature_service: str | None = None,
        features: Sequence[str] | None = None,
        check_rows: Any = 200,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.entities = entities
        self.entities_sql = entities_sql
        self.conn_id = conn_id
        self.parameters = parameters
        self.name = name
        self.feature_service = feature_service
        self.features = features
        self.check_rows = check_rows

    def execute(self, context: Context) -> dict[str, Any]:
        """Join, and write the dataset to the workspace."""
        from airflow_mlops_provider.steps.card import DataCard
        from airflow_mlops_provider.steps.features.historical import historical_features
        from airflow_mlops_provider.steps.features.pin import pin_feature_service

        with self.tracked_run(context) as run:
            store, card = self.store, DataCard(self.owner)
            dataset = historical_features(
                store,
                self._entities(),
                name=self.name,
                workspace=self.workspace_uri,
                feature_service=self.feature_service,
                features=self.features,
                check_rows=int(self.check_rows),
                card=card,
            )
            run.log_page(card.html(dataset, how_taken(context)), CARD)
            self.link_artifact(context, run, DataCardLink.xcom_key, CARD)
            run.log_dataset(dataset, "features")
            run.log_record(dataset)
            if self.feature_service:
                pin = pin_feature_service(store, self.feature_service)
                context["ti"].xcom_push(key=FEATURE_SERVICE_KEY, value=pin)
        self.log.info("Joined %d columns to %d rows", len(dataset.columns), dataset.n_rows)
        return dataset.to_xcom()

    def _entities(self) -> DatasetRef:
        if bool(self.entities) == bool(self.entities_sql):
            raise ParameterError(
                f"{type(self).__name__} needs exactly one of entities and entities_sql. Got "
                f"{self.entities!r} and {self.entities_sql!r} instead."
            )
        if self.entities_sql:
            return self._queried(self.entities_sql)
        return self._called() if callable(self.entities) else DatasetRef.from_xcom(self.entities)

    def _queried(self, sql: str) -> DatasetRef:
        from airflow_mlops_provider.hooks.sql import stream_query
        from airflow_mlops_provider.steps.snapshot import write_batches

        if not self.conn_id:
            raise ParameterError.of("conn_id", type(self).__name__, "given with entities_sql", None)
        return write_batches(
            stream_query(self.conn_id, sql, self.parameters),
            f"{self.name}_entities",
            self.workspace_uri,
            f"SQL of {self.conn_id}: {sql}",
        )

    def _called(self) -> DatasetRef:
        from airflow_mlops_provider.steps.snapshot import write_dataset

        source = f"{self.entities.__module__}.{self.entities.__qualname__}"
        return write_dataset(self.entities(), f"{self.name}_entities", self.workspace_uri, source)


class FeastPushOperator(FeastOperator):
    """Push rows to the feature views of a ``PushSource``. Gives the number of rows.

    Args:
        rows: The ``DatasetRef`` of join keys, timestamp and features.
        push_source: Name of the ``PushSource``.
        to: ``online``, ``offline`` or ``online_and_offline``.
    """

    template_fields: Sequence[str] = (
        *FeastOperator.feast_template_fields,
        "rows",
        "push_source",
        "to",
    )

    def __init__(self, *, rows: Any, push_source: str, to: str = "online", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows = rows
        self.push_source = push_source
        self.to = to

    def execute(self, context: Context) -> int:
        """Push the newest row of each entity online, and offline those that are not there."""
        from airflow_mlops_provider.steps.features.push import push_features

        with self.tracked_run(context):
            rows = DatasetRef.from_xcom(self.rows)
            n_rows = push_features(self.store, rows, push_source=self.push_source, to=self.to)
        self.log.info("Pushed %d rows to %r, %s", n_rows, self.push_source, self.to)
        return n_rows


class CheckFeatureServiceOperator(FeastOperator):
    """Make sure that the features a model learned from are those that are defined now.

    Gives the name of the feature service, None for a version without one. Fails for good if the
    service was changed meanwhile: deploying the version would serve it other features.

    Args:
        model_version: The ``ModelVersionRef``, registered with its ``feature_service``.
    """

    template_fields: Sequence[str] = (*FeastOperator.feast_template_fields, "model_version")

    def __init__(self, *, model_version: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model_version = model_version

    def execute(self, context: Context) -> str | None:
        """Compare the pin with the registry."""
        from airflow_mlops_provider.steps.features.pin import require_pinned_service

        with self.tracked_run(context):
            version = ModelVersionRef.from_xcom(self.model_version)
            name = require_pinned_service(self.store, version)
        self.log.info("Version %s of %r learned from %s", version.version, version.name, name)
        return name


def as_bool(value: object) -> bool:
    """Return a flag that a template may have rendered to text."""
    return str(value).strip().lower() in {"true", "1", "yes"}
