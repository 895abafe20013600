from __future__ import annotations

from unittest.mock import MagicMock

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException
from feast.infra.compute_engines.local.compute import LocalComputeEngine

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.steps.features.engine import (
    StreamingComputeEngine,
    StreamingComputeEngineConfig,
)

MINIMAL = {"project": "p", "provider": "local", "entity_key_serialization_version": 3}


@pytest.fixture
def repo(tmp_path):
    def written(text="", **sections):
        folder = tmp_path / "repo"
        folder.mkdir()
        lines = [f"{key}: {value}" for key, value in {**MINIMAL, **sections}.items()]
        (folder / "feature_store.yaml").write_text(text or "\n".join(lines))
        return str(folder)

    return written


@pytest.fixture
def extra(monkeypatch):
    """Make the Connection; its extra is the dict that this gives."""
    value = {}
    connection = MagicMock(extra_dejson=value)
    monkeypatch.setattr(FeastHook, "get_connection", lambda self, conn_id: connection)
    return value


@pytest.fixture
def no_connection(monkeypatch):
    def missing(self, conn_id):
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(FeastHook, "get_connection", missing)


def test_without_connection_and_paths_the_stores_lie_in_the_workspace(
    repo, no_connection, workspace
):
    store = FeastHook(repo_path=repo()).get_conn()
    assert store.project == "p"
    assert store.config.registry.path == f"{workspace}/feast/p/registry.db"
    assert store.config.online_store.path == f"{workspace}/feast/p/online_store.db"


@pytest.mark.parametrize(
    ("registry", "atomic"),
    [
        ("", True),
        ("{folder}/r.db", True),
        ("{{path: {folder}/r.db}}", True),
        ("s3://bucket/r.db", False),
        ("{{registry_type: sql, path: sqlite:///{folder}/r.db}}", False),
    ],
)
def test_a_registry_in_a_file_is_replaced_as_a_whole(
    repo, no_connection, tmp_path, registry, atomic
):
    folder = repo(registry=registry.format(folder=tmp_path))
    config = FeastHook(repo_path=folder, workspace=str(tmp_path)).get_conn().config.registry
    assert str(config.registry_store_type).endswith("AtomicFileRegistryStore") is atomic


def test_paths_of_the_repository_stay(repo, no_connection, tmp_path):
    folder = repo(registry=f"{tmp_path}/r.db", online_store=f"{{path: {tmp_path}/o.db}}")
    store = FeastHook(repo_path=folder, workspace="/nowhere").get_conn()
    assert store.config.registry.path == f"{tmp_path}/r.db"
    assert store.config.online_store.path == f"{tmp_path}/o.db"


def test_the_connection_is_laid_over_the_repository(repo, extra, tmp_path):
    extra |= {"registry": {"cache_ttl_seconds": 7}, "offline_store": {"type": "duckdb"}}
    store = FeastHook(
        repo_path=repo(registry=f"{{cache_ttl_seconds: 1, path: {tmp_path}/r.db}}")
    ).get_conn()
    assert store.config.registry.cache_ttl_seconds == 7
    assert store.config.registry.path == f"{tmp_path}/r.db"
    assert store.config.offline_store.type == "duckdb"


def test_a_connection_that_was_asked_for_must_exist(repo, no_connection):
    with pytest.raises(AirflowNotFoundException):
        FeastHook("another", repo()).get_conn()


@pytest.mark.parametrize("section", [{}, {"batch_engine": "local"}])
def test_our_engine_materializes_in_place_of_feasts_local_one(
    repo, no_connection, workspace, section
):
    store = FeastHook(repo_path=repo(**section), workspace=workspace).get_conn()
    assert isinstance(store._get_provider().batch_engine, StreamingComputeEngine)
    assert isinstance(store.config.batch_engine, StreamingComputeEngineConfig)


def test_another_engine_that_the_repository_names_stays(repo, no_connection, workspace):
    named = "feast.infra.compute_engines.local.compute.LocalComputeEngine"
    store = FeastHook(repo_path=repo(batch_engine=f"{{type: {named}}}")).get_conn()
    assert type(store._get_provider().batch_engine) is LocalComputeEngine


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("project: [", "not valid YAML"),
        ("provider: local", "names no project"),
        ("- project", "names no project"),
        ("project: p\nonline_store: {type: nonsense}", "nonsense"),
        ("project: p\nregistry: {cache_ttl_seconds: soon}", "cache_ttl_seconds"),
        ("project: p\nprovider: local\nregistry: [1]", "no valid Feast configuration"),
    ],
)
def test_a_broken_configuration_is_named(repo, no_connection, workspace, text, message):
    folder = repo(text)
    with pytest.raises(DataError, match=message) as error:
        FeastHook(repo_path=folder).get_conn()
    assert f"{folder}/feature_store.yaml" in str(error.value)


def test_a_missing_repository_is_named(no_connection, tmp_path):
    with pytest.raises(DataError, match=r"No file .*nowhere/feature_store.yaml"):
        FeastHook(repo_path=f"{tmp_path}/nowhere").get_conn()


@pytest.mark.parametrize(
    ("content", "answer"), [({"registry": {}}, True), ({"regsitry": {}}, False), ({}, True)]
)
def test_the_test_button_knows_the_sections(extra, content, answer):
    extra |= content
    assert FeastHook().test_connection()[0] is answer
