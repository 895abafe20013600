"""Feast: a feature repository and a Connection in, a ``FeatureStore`` out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops_provider.hooks.settings import workspace_uri

if TYPE_CHECKING:
    from feast import FeatureStore


class FeastHook(BaseHook):
    """The feature store of a repository, with the stores that ``feast_conn_id`` names.

    The Connection's extra is laid over ``feature_store.yaml``, so that one repository serves
    several environments: ``{"registry": {"registry_type": "sql", "path": "postgresql://..."}}``.
    A registry or SQLite online store for which neither gives a path lies in the workspace,
    under ``feast/{project}/``. Where neither names a compute engine, or names ``local``, ours
    materializes; Feast's own is then
    ``feast.infra.compute_engines.local.compute.LocalComputeEngine``.
    """

    conn_name_attr = "feast_conn_id"
    default_conn_name = "feast_default"
    conn_type = "feast"
    hook_name = "Feast"

    def __init__(
        self,
        feast_conn_id: str = default_conn_name,
        repo_path: str | None = None,
        workspace: str | None = None,
    ) -> None:
        super().__init__()
        self.feast_conn_id = feast_conn_id
        self.repo_path = repo_path
        self.workspace = workspace

    def get_conn(self) -> FeatureStore:
        """Return the feature store.

        Raises:
            DataError: the repository has no valid ``feature_store.yaml``.
        """
        from airflow_mlops_provider.serving.feature_store import open_feature_store

        return open_feature_store(
            Path(self.repo_path or os.curdir).resolve(),
            self.workspace or workspace_uri(),
            self._overrides(),
            laid_over=f", with the Connection {self.feast_conn_id!r} laid over it,",
        )

    def test_connection(self) -> tuple[bool, str]:
        """Say whether the extra is laid out as ``feature_store.yaml``; no store is opened."""
        unknown = set(self._overrides()) - _SECTIONS
        if unknown:
            return False, f"Unknown sections {sorted(unknown)}; expected {sorted(_SECTIONS)}."
        return True, "The overrides name sections of feature_store.yaml."

    def _overrides(self) -> dict[str, Any]:
        try:
            return dict(self.get_connection(self.feast_conn_id).extra_dejson)
        except AirflowNotFoundException:
            if self.feast_conn_id == self.default_conn_name:
                return {}
            raise


_SECTIONS = {
    "auth",
    "batch_engine",
    "entity_key_serialization_version",
    "feature_server",
    "materialization",
    "mlflow",
    "offline_store",
    "online_store",
    "openlineage",
    "project",
    "provider",
    "registry",
}
