"""Wait until features have been taken online."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.operators.base import failing_for_good
from airflow_mlops_provider.sensors.base import DeferrableSensor
from airflow_mlops_provider.triggers.features import FeatureFreshnessTrigger, look

if TYPE_CHECKING:
    from airflow.sdk import Context


class FeatureFreshnessSensor(DeferrableSensor):
    """Wait until every feature view has been materialized far enough.

    Gives the newest materialized interval's end of each view, ISO 8601.

    Args:
        repo_path: Folder with ``feature_store.yaml``.
        feature_views: Names, or one name; by default all views that are served online.
        fresh_after: The moment that each view must have reached, ISO 8601; or
        max_age: how long ago it may be: seconds, or an ISO 8601 duration such as ``PT6H``.
        feast_conn_id: Connection whose extra is laid over ``feature_store.yaml``.
        workspace: fsspec URI of the workspace; by default ``[mlops] workspace``.
    """

    template_fields: Sequence[str] = (
        "repo_path",
        "feature_views",
        "fresh_after",
        "max_age",
        "feast_conn_id",
        "workspace",
    )

    def __init__(
        self,
        *,
        repo_path: str,
        feature_views: Any = None,
        fresh_after: str | None = None,
        max_age: Any = None,
        feast_conn_id: str = FeastHook.default_conn_name,
        workspace: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.repo_path = repo_path
        self.feature_views = feature_views
        self.fresh_after = fresh_after
        self.max_age = max_age
        self.feast_conn_id = feast_conn_id
        self.workspace = workspace

    @property
    def question(self) -> dict[str, Any]:
        """What sensor and trigger ask."""
        return {
            "repo_path": self.repo_path,
            "feast_conn_id": self.feast_conn_id,
            "workspace": self.workspace or workspace_uri(),
            "feature_views": self.feature_views,
            "fresh_after": self.fresh_after,
            "max_age": self.max_age,
        }

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        with failing_for_good():
            found = look(**self.question)
        if found["stale"]:
            self.log.info("Waiting for %s; newest ends: %s", found["stale"], found["ends"])
        return PokeReturnValue(is_done=not found["stale"], xcom_value=found["ends"])

    def trigger(self) -> FeatureFreshnessTrigger:
        """Return what looks on in the triggerer."""
        return FeatureFreshnessTrigger(**self.question, poke_interval=self.poke_interval)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Hand over what the trigger found."""
        if "error" in event:
            raise AirflowFailException(event["error"])
        self.log.info("Fresh: %s", event["ends"])
        return dict(event["ends"])
