"""One contract for every combination of Feast's registries, offline and online stores."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast.feature_view import FeatureViewState
from sqlalchemy import create_engine, make_url, text

from airflow_mlops_provider.exceptions import PermanentError
from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.steps.features.historical import historical_features
from airflow_mlops_provider.steps.features.materialize import materialize as materialize_now
from airflow_mlops_provider.steps.features.registry import heal
from airflow_mlops_provider.steps.features.repo import apply_features
from airflow_mlops_provider.steps.features.skew import compare_online
from airflow_mlops_provider.steps.features.writers import writer_for
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset

ROOT = Path(__file__).resolve().parents[2]
START = pd.Timestamp("2024-01-01", tz="UTC")
materialize = partial(materialize_now, now=START + pd.Timedelta(days=365))
_NUMBERS = itertools.count()
FEATURES = ["level", "visits", "colour", "active"]
CONFIG = """
project: {project}
provider: local
offline_store: {{type: duckdb}}
online_store: {{type: sqlite}}
entity_key_serialization_version: 3
"""
DEFINITIONS = """
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Bool, Float64, Int64, String

{source}
tank = Entity(name="tank", value_type=ValueType.INT64)
fields = [
    Field(name="level", dtype=Float64), Field(name="visits", dtype=Int64),
    Field(name="colour", dtype=String), Field(name="active", dtype=Bool),
]
views = [
    FeatureView(
        name=name, entities=[tank], ttl=timedelta(days={ttl}), schema=fields, source=source,
    )
    for name in {views}
]
globals().update({{view.name: view for view in views}})
service = FeatureService(name="service", features=views[:1])
"""
FILE_SOURCE = 'source = FileSource(path="{path}", timestamp_field="event_timestamp")'
POSTGRES_SOURCE = """
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)

source = PostgreSQLSource(name="tanks", table="tanks", timestamp_field="event_timestamp")
"""


def observations() -> pd.DataFrame:
    """Return 40 moments of each of 30 tanks within ten days."""
    rng = np.random.default_rng(0)
    rows = 30 * 40
    minutes = [np.sort(rng.choice(24 * 60 * 10, 40, replace=False)) for _ in range(30)]
    return pd.DataFrame(
        {
            "tank": np.repeat(np.arange(30), 40),
            "event_timestamp": START + pd.to_timedelta(np.concatenate(minutes), unit="min"),
            "level": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
            "visits": rng.integers(0, 2**53, rows),
            "colour": rng.choice(["red", "blå", ""], rows),
            "active": rng.random(rows) < 0.5,
        }
    )


@dataclass
class Stores:
    """A repository, and what the Connection lays over its ``feature_store.yaml``."""

    repo: str
    extra: dict[str, Any]

    def open(self) -> Any:
        return FeastHook(repo_path=self.repo).get_conn()


def new_database(postgres: str) -> dict[str, Any]:
    """Return Feast's settings for a database of its own."""
    url = make_url(postgres)
    with create_engine(url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        n = connection.execute(text("SELECT count(*) FROM pg_database")).scalar()
        connection.execute(text(f"CREATE DATABASE feast_{n}"))
    return {
        "type": "postgres",
        "host": url.host,
        "port": url.port,
        "database": f"feast_{n}",
        "user": url.username,
        "password": "",
        "sslmode": "disable",
    }


def url_of(settings: dict[str, Any], driver: str = "psycopg") -> str:
    where = f"{settings['host']}:{settings['port']}/{settings['database']}"
    return f"postgresql+{driver}://{settings['user']}@{where}"


def make_stores(
    request,
    folder: Path,
    monkeypatch,
    offline: str,
    online: str,
    registry: str,
    views=("tanks",),
    ttl=2,
) -> Stores:
    """Write the data, the repository, and the Connection that names the stores."""
    folder.mkdir()
    kinds = {offline, online, registry}
    database = new_database(request.getfixturevalue("postgres")) if "postgres" in kinds else {}
    extra: dict[str, Any] = {"offline_store": {"type": offline}, "online_store": {"type": online}}
    if online == "postgres":
        extra["online_store"] = database
    if online == "redis":
        extra["online_store"]["connection_string"] = request.getfixturevalue("redis")
    if offline == "postgres":
        extra["offline_store"] = database
        observations().to_sql("tanks", create_engine(url_of(database)), index=False)
        source = POSTGRES_SOURCE
    else:
        observations().to_parquet(folder / "tanks.parquet", coerce_timestamps="us")
        source = FILE_SOURCE.format(path=folder / "tanks.parquet")
    if registry == "postgres":
        extra["registry"] = {"registry_type": "sql", "path": url_of(database)}
    if registry == "sqlite":
        extra["registry"] = {"registry_type": "sql", "path": f"sqlite:///{folder}/registry.sqlite"}
    # tests share Redis, which tells their rows apart by the project
    (folder / "feature_store.yaml").write_text(CONFIG.format(project=f"p{next(_NUMBERS)}"))
    definitions = DEFINITIONS.format(source=source, views=list(views), ttl=ttl)
    (folder / "definitions.py").write_text(definitions)
    monkeypatch.chdir(folder)
    stores = Stores(str(folder), {})
    connect(stores, monkeypatch, extra)
    return stores


def connect(stores: Stores, monkeypatch, extra: dict[str, Any]) -> None:
    """Add to what the Connection lays over ``feature_store.yaml``."""
    stores.extra |= extra
    connection = json.dumps({"conn_type": "feast", "extra": stores.extra})
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", connection)


COMBINATIONS = [
    ("duckdb", "sqlite", "file"),
    ("dask", "sqlite", "sqlite"),
    ("duckdb", "redis", "file"),
    ("duckdb", "redis", "postgres"),
    ("duckdb", "postgres", "postgres"),
    ("postgres", "postgres", "postgres"),
    ("postgres", "redis", "sqlite"),
]


@pytest.fixture(params=COMBINATIONS, ids=lambda names: "-".join(names))
def stores(request, tmp_path, workspace, monkeypatch):
    return make_stores(request, tmp_path / "repo", monkeypatch, *request.param)


def served(store: Any, tanks: range) -> pd.DataFrame:
    """Return what is served, one row a tank."""
    answer = store.get_online_features(
        features=store.get_feature_service("service"),
        entity_rows=[{"tank": tank} for tank in tanks],
    )
    return pd.DataFrame(answer.to_dict()).set_index("tank")[FEATURES]


def newest(until: pd.Timestamp) -> pd.DataFrame:
    known = observations().query("event_timestamp <= @until")
    return known.groupby("tank").tail(1).set_index("tank")[FEATURES]


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Compare exactly, whatever kind of null each store gives."""
    assert [*found.index] == [*expected.index]
    for column in FEATURES:
        ours, theirs = (
            [None if pd.isna(value) else value for value in frame[column]]
            for frame in (found, expected)
        )
        assert ours == theirs, column


def test_what_was_materialized_is_served_and_joined(stores, workspace):
    store = stores.open()
    assert apply_features(store, stores.repo) == ["tanks"]
    noon = START + pd.Timedelta(days=5, hours=12)
    materialize(store, None, START, noon)
    assert_same(served(stores.open(), range(30)), newest(noon))
    end = START + pd.Timedelta(days=10)
    for _ in range(2):
        materialize(stores.open(), ["tanks"], noon - pd.Timedelta(hours=6), end)
        assert_same(served(stores.open(), range(30)), newest(end))
    assert served(stores.open(), range(99, 100)).isna().all(axis=None)
    assert len(stores.open().get_feature_view("tanks").materialization_intervals) >= 2

    rng = np.random.default_rng(1)
    minutes = pd.to_timedelta(rng.integers(0, 24 * 60 * 14, 200), unit="min")
    entities = pd.DataFrame({"tank": rng.integers(0, 33, 200), "event_timestamp": START + minutes})
    entities = pd.concat([entities, entities[:20]], ignore_index=True)
    ref = write_dataset(entities.assign(id=range(220)), "entities", workspace, "test")
    joined = historical_features(
        stores.open(), ref, name="joined", workspace=workspace, feature_service="service"
    )
    found = read_dataset(joined)
    assert found["id"].tolist() == [*range(220)]
    assert_same(found, known_at(entities))
    assert found["level"].isna().mean() > 0.2


def known_at(entities: pd.DataFrame) -> pd.DataFrame:
    """Return the features within their two days at the moment of each row."""
    as_microseconds = {"event_timestamp": "datetime64[us, UTC]"}
    joined = pd.merge_asof(
        entities.astype(as_microseconds).reset_index().sort_values("event_timestamp"),
        observations().astype(as_microseconds).sort_values("event_timestamp"),
        on="event_timestamp",
        by="tank",
        tolerance=pd.Timedelta(days=2),
    )
    return joined.set_index("index").sort_index()[FEATURES]


def test_a_view_is_served_whatever_a_killed_materialization_left(stores):
    store = stores.open()
    apply_features(store, stores.repo)
    materialize(store, None, START, START + pd.Timedelta(days=1))
    stores.open().set_feature_view_state("tanks", FeatureViewState.MATERIALIZING)
    # Feast's SQL registry takes a view that differs in its state alone for unchanged
    stuck = ["tanks"] if "registry" not in stores.extra else []
    assert heal(stores.open(), ["tanks"]) == stuck
    assert_same(served(stores.open(), range(30)), newest(START + pd.Timedelta(days=1)))


def test_the_hook_leaves_no_folder_named_after_a_url(stores):
    stores.open()
    assert not [path for path in Path(stores.repo).rglob("*") if ":" in path.name]


TWO_DAYS = """
import sys
from datetime import UTC, datetime, timedelta
from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.steps.features.materialize import materialize

start = datetime(2024, 1, 1, tzinfo=UTC)
store = FeastHook(repo_path=sys.argv[1]).get_conn()
for day in range(8):
    if day % 4 == int(sys.argv[2]):
        views = ["one", "two"] if day % 2 else ["two", "one"]
        end = start + timedelta(days=day + 1)
        materialize(store, views, start + timedelta(days=day), end, now=end)
"""


@pytest.mark.parametrize("registry", ["sqlite", "postgres"])
def test_the_sql_registry_keeps_what_four_writers_commit(
    request, tmp_path, workspace, monkeypatch, registry
):
    views = ("one", "two")
    stores = make_stores(
        request, tmp_path / "repo", monkeypatch, "duckdb", "sqlite", registry, views
    )
    apply_features(stores.open(), stores.repo)
    command = [sys.executable, "-c", TWO_DAYS, stores.repo]
    writers = [
        subprocess.Popen([*command, str(n)], stdout=subprocess.DEVNULL, cwd=ROOT) for n in range(4)
    ]
    assert [writer.wait(240) for writer in writers] == [0, 0, 0, 0]
    for view in views:
        intervals = stores.open().get_feature_view(view).materialization_intervals
        assert sorted((start - START).days for start, _ in intervals) == [*range(8)]


def test_an_online_store_that_dies_midway_is_retryable_and_the_next_try_completes(
    request, tmp_path, workspace, monkeypatch
):
    from tests.servers import need, redis_server

    need("redis", "pip install redis hiredis")
    stores = make_stores(request, tmp_path / "repo", monkeypatch, "duckdb", "redis", "file")
    with redis_server() as server:
        address = {"type": "redis", "connection_string": server.address}
        connect(stores, monkeypatch, {"online_store": address})
        dies_midway(stores, monkeypatch, server.stop, server.start)


def test_a_postgres_online_store_that_dies_midway_is_retryable_too(
    request, tmp_path, workspace, monkeypatch, postgres
):
    stores = make_stores(request, tmp_path / "repo", monkeypatch, "duckdb", "postgres", "file")
    database = stores.extra["online_store"]["database"]
    admin = create_engine(make_url(postgres)).connect()
    admin = admin.execution_options(isolation_level="AUTOCOMMIT")

    def allow(connections: int) -> None:
        admin.execute(text(f"ALTER DATABASE {database} CONNECTION LIMIT {connections}"))
        admin.execute(text(f"ALTER DATABASE {database} ALLOW_CONNECTIONS {connections != 0}"))
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        admin.execute(text(end), {"name": database})

    with admin:
        dies_midway(stores, monkeypatch, lambda: allow(0), lambda: allow(-1))


def dies_midway(stores: Stores, monkeypatch, stop, start) -> None:
    """Stop the online store after its first batch; the try must fail, and the next complete."""
    apply_features(stores.open(), stores.repo)
    day, end = START + pd.Timedelta(days=1), START + pd.Timedelta(days=9)
    materialize(stores.open(), None, START, day)
    before = stores.open().get_feature_view("tanks").materialization_intervals
    with monkeypatch.context() as patch:
        patch.setattr(*dying(stores.open(), stop))
        with pytest.raises(Exception) as failure:  # noqa: PT011 - the client's own
            materialize(stores.open(), None, day, end)
    assert not isinstance(failure.value, PermanentError)
    start()
    assert stores.open().get_feature_view("tanks").materialization_intervals == before
    materialize(stores.open(), None, day, end)
    assert_same(served(stores.open(), range(30)), newest(end))
    assert len(stores.open().get_feature_view("tanks").materialization_intervals) == 2


def dying(store: Any, stop) -> tuple[type, str, Any]:
    """Return a way to write that stops the server halfway through the rows."""
    online = store._get_provider().online_store
    kind = type(writer_for(online, store.config, store.get_feature_view("tanks")))
    write = kind.write

    def half(self, batch):
        middle = batch.num_rows // 2
        write(self, batch.slice(0, middle))
        stop()
        write(self, batch.slice(middle))

    return kind, "write", half


@pytest.fixture
def ray_engine(tmp_path, monkeypatch):
    """The settings of a Ray cluster on this machine, which Feast starts."""
    from tests.servers import need

    need("ray", "pip install ray msgpack (feast[ray] brings Kubernetes clients along)")
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # a path for sockets has to be short
    folder = tempfile.mkdtemp(prefix="ray-")
    local = {"_node_ip_address": "127.0.0.1", "_temp_dir": folder, "include_dashboard": False}
    yield {"type": "ray.engine", "ray_conf": {"num_cpus": 2, **local}}
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_ray_gives_the_online_rows_of_the_local_engine_and_skew_tells_what_it_lost(
    request, tmp_path, workspace, monkeypatch, ray_engine
):
    rows = {}
    end = START + pd.Timedelta(days=10)
    for engine in ({}, {"batch_engine": ray_engine}):
        folder = tmp_path / f"repo{len(engine)}"
        stores = make_stores(request, folder, monkeypatch, "duckdb", "sqlite", "file", ttl=36500)
        connect(stores, monkeypatch, {**engine, "materialization": {"pull_latest_features": True}})
        apply_features(stores.open(), stores.repo)
        materialize(stores.open(), None, START, end)
        store = stores.open()
        with sqlite3.connect(store.config.online_store.path) as connection:
            table = f"SELECT * FROM {store.project}_tanks"  # noqa: S608
            rows[len(engine)] = sorted(row[:4] for row in connection.execute(table).fetchall())
            connection.execute(f"DROP TABLE {store.project}_tanks")
    assert rows[0] == rows[1]
    assert len(rows[0]) == 30 * len(FEATURES)

    materialize(stores.open(), None, START, end)  # Feast's Ray engine only logs failed writes
    apply_again(stores)
    entities = write_dataset(pd.DataFrame({"tank": range(30)}), "entities", workspace, "test")
    report = compare_online(stores.open(), entities, at=end, feature_service="service")
    assert sorted(report.skewed) == sorted(FEATURES)


def apply_again(stores: Stores) -> None:
    """Make the table of the online store again, which apply leaves alone for unchanged views."""
    store = stores.open()
    views = store.list_batch_feature_views()
    store._get_provider().update_infra(store.project, [], views, [], [], partial=True)
