"""A feature repository opened as a ``FeatureStore``, by the Feast hook and by scorers.

A registry or SQLite online store for which ``feature_store.yaml`` gives no path lies in the
workspace, under ``feast/{project}/``, and a repository that names no compute engine gets ours.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.workspace import join

if TYPE_CHECKING:
    from feast import FeatureStore, RepoConfig

CONFIG_FILE = "feature_store.yaml"
ENGINE = "airflow_mlops_provider.steps.features.engine.StreamingComputeEngine"
_FEASTS_OWN = {"type": "local"}
_REGISTRY_STORE = "airflow_mlops_provider.steps.features.registry.AtomicFileRegistryStore"


def open_feature_store(
    repo: Path, workspace: str, overrides: Mapping[str, Any] | None = None, *, laid_over: str = ""
) -> FeatureStore:
    """Return the feature store of a repository.

    Args:
        repo: Folder of the repository.
        workspace: fsspec URI of the workspace.
        overrides: Sections to lay over ``feature_store.yaml``, key by key.
        laid_over: What an error says of the overrides.

    Raises:
        DataError: the repository has no valid ``feature_store.yaml``.
    """
    from feast import FeatureStore, RepoConfig
    from feast.errors import FeastError
    from pydantic import ValidationError

    # it says at each read that its cache expired, and would drown our own log
    logging.getLogger("feast.infra.registry.registry").setLevel(logging.WARNING)
    config = _config(repo, workspace, overrides or {})
    try:
        parsed = RepoConfig(**config)
        parsed.repo_path = repo
        store = FeatureStore(repo_path=str(repo), config=parsed)
        _make_folders(repo, store.config)
    except (ValidationError, FeastError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"{repo / CONFIG_FILE}{laid_over} is no valid Feast configuration: {error}. Correct "
            "the named fields."
        ) from error
    return store


def _config(repo: Path, workspace: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    config = _overlaid(_read_config(repo / CONFIG_FILE), overrides)
    project = str(config.get("project"))
    home = join(workspace, "feast", project)
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
