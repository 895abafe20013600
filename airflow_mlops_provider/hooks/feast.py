"""Feast: a feature repository and a Connection in, a ``FeatureStore`` out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.workspace import join

if TYPE_CHECKING:
    from feast import FeatureStore, RepoConfig

CONFIG_FILE = "feature_store.yaml"
ENGINE = "airflow_mlops_provider.steps.features.engine.StreamingComputeEngine"
_FEASTS_OWN = {"type": "local"}
_REGISTRY_STORE = "airflow_mlops_provider.steps.features.registry.AtomicFileRegistryStore"


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
        from feast import FeatureStore, RepoConfig
        from feast.errors import FeastError
        from pydantic import ValidationError

        # it says at each read that its cache expired, and would drown the task's own log
        logging.getLogger("feast.infra.registry.registry").setLevel(logging.WARNING)
        repo = Path(self.repo_path or os.curdir).resolve()
        config = self._config(repo)
        try:
            parsed = RepoConfig(**config)
            parsed.repo_path = repo
            store = FeatureStore(repo_path=str(repo), config=parsed)
            _make_folders(repo, store.config)
        except (ValidationError, FeastError, ValueError, AttributeError, TypeError) as error:
            raise DataError(
                f"{repo / CONFIG_FILE}, with the Connection {self.feast_conn_id!r} laid over it, "
                f"is no valid Feast configuration: {error}. Correct the named fields."
            ) from error
        return store

    def test_connection(self) -> tuple[bool, str]:
        """Say whether the extra is laid out as ``feature_store.yaml``; no store is opened."""
        unknown = set(self._overrides()) - _SECTIONS
        if unknown:
            return False, f"Unknown sections {sorted(unknown)}; expected {sorted(_SECTIONS)}."
        return True, "The overrides name sections of feature_store.yaml."

    def _config(self, repo: Path) -> dict[str, Any]:
        config = _overlaid(_read_config(repo / CONFIG_FILE), self._overrides())
        project = str(config.get("project"))
        home = join(self.workspace or workspace_uri(), "feast", project)
        if config.get("batch_engine", _FEASTS_OWN) in ("local", _FEASTS_OWN):
            config["batch_engine"] = {"type": ENGINE}
        registry = config.get("registry") or {}
        if isinstance(registry, Mapping) and not registry.get("path"):
            registry = {"path": join(home, "registry.db"), **registry}
        config["registry"] = _made_atomic(registry)
        online = config.get("online_store") or {}
        if isinstance(online, Mapping) and online.get("type", "sqlite") == "sqlite":
            config["online_store"] = {
                "type": "sqlite",
                "path": join(home, "online_store.db"),
                **online,
            }
        return config

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


def _make_folders(repo: Path, config: RepoConfig) -> None:
    """Make the folders of what lies in files: the registry, and the SQLite online store."""
    for path in (config.registry.path, getattr(config.online_store, "path", None)):
        if path and "://" not in str(path):
            Path(repo, path).parent.mkdir(parents=True, exist_ok=True)


def _read_config(file: Path) -> dict[str, Any]:
    import yaml

    try:
        config = yaml.safe_load(os.path.expandvars(file.read_text()))
    except FileNotFoundError as error:
        raise DataError(
            f"No file {file}. Let repo_path name the folder of a Feast repository; `feast init` "
            "makes one."
        ) from error
    except yaml.YAMLError as error:
        raise DataError(f"{file} is not valid YAML: {error}. Correct it.") from error
    if not isinstance(config, dict) or not config.get("project"):
        raise DataError(f"{file} names no project. Write `project: <name>` and the stores into it.")
    return config


def _made_atomic(registry: Any) -> Any:
    """Let a local file registry be written whole or not at all."""
    if isinstance(registry, str):
        registry = {"path": registry}
    if not isinstance(registry, Mapping) or registry.get("registry_type", "file") != "file":
        return registry
    if "://" in str(registry.get("path")):
        return registry
    return {"registry_store_type": _REGISTRY_STORE, **registry}


def _overlaid(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``over``; sections are merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            value = _overlaid(old, value)
        merged[key] = value
    return merged
