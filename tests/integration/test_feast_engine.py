"""Our compute engine against Feast's own, on real stores: the same bytes online, in any order."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import redis
from feast import (
    BatchFeatureView,
    Entity,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    PushSource,
    RepoConfig,
    ValueType,
)
from feast.feature_view import FeatureViewState
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    UnixTimestamp,
)

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.features.push import push_features
from airflow_mlops_provider.steps.snapshot import write_dataset
from tests.servers import need, redis_server

START = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2025, 1, 1, tzinfo=UTC)
ENGINE = "airflow_mlops_provider.steps.features.engine.StreamingComputeEngine"
FEAST = "local"
DTYPES = {
    "f64": Float64,
    "f32": Float32,
    "i64": Int64,
    "i32": Int32,
    "text": String,
    "raw": Bytes,
    "yes": Bool,
    "seen": UnixTimestamp,
    "many": Array(Float64),
}
KINDS = {"user": ValueType.INT64, "näme": ValueType.STRING}


class SubclassedStore(SqliteOnlineStore):
    """To our writers an online store that they do not know."""


@pytest.fixture(scope="module")
def redis_port():
    """A Redis server of these tests' own."""
    need("redis", "pip install redis hiredis")
    with redis_server() as server:
        yield server.port


@pytest.fixture
def world(tmp_path, request):
    return World(tmp_path, request)


class World:
    """Stores over one source, each with an engine and an online store of its own."""

    def __init__(self, folder, request):
        self.folder, self.request = folder, request
        self.offline, self.online, self.options = "duckdb", "sqlite", {}
        self.join_keys, self.dtypes = ["user"], DTYPES
        self.source_options: dict = {}
        self.view_options: dict = {}
        self.pushed, self.kind, self.kind_options = False, FeatureView, {}

    def write(self, frame, **options):
        frame.to_parquet(
            self.folder / "source.parquet",
            coerce_timestamps="us",
            allow_truncated_timestamps=True,
            **options,
        )

    def store(self, engine, name=None):
        name = name or engine.rpartition(".")[2]
        online = {"type": "sqlite", "path": str(self.folder / f"{name}.db")}
        if self.online == "redis":
            port = self.request.getfixturevalue("redis_port")
            number = abs(hash(name)) % 16
            redis.Redis(port=port, db=number).flushdb()
            online = {"type": "redis", "connection_string": f"127.0.0.1:{port},db={number}"}
        config = RepoConfig(
            project="prøject",
            provider="local",
            registry=str(self.folder / f"{name}_registry.db"),
            offline_store={"type": self.offline},
            online_store={**online, **self.options},
            batch_engine={"type": engine},
            materialization=self.view_options.get("materialization", {}),
            entity_key_serialization_version=3,
        )
        store = FeatureStore(config=config)
        if self.online == "subclass":
            store._get_provider()._online_store = SubclassedStore()
        source = FileSource(
            path=str(self.folder / "source.parquet"), timestamp_field="at", **self.source_options
        )
        entities = [Entity(name=key, value_type=KINDS[key]) for key in self.join_keys]
        view = self.kind(
            name="view",
            entities=entities,
            ttl=timedelta(days=3),
            schema=[Field(name=name, dtype=dtype) for name, dtype in self.dtypes.items()],
            source=PushSource(name="live", batch_source=source) if self.pushed else source,
            **self.kind_options,
        )
        store.apply([*entities, view])
        return store

    def rows(self, store):
        if self.online == "redis":
            client = store._get_provider().online_store._get_client(store.config.online_store)
            return {key: (client.hgetall(key), client.ttl(key) > 0) for key in client.scan_iter()}
        with sqlite3.connect(store.config.online_store.path) as connection:
            return connection.execute('SELECT * FROM "prøject_view" ORDER BY 1, 2').fetchall()

    def materialized(self, engine, start=START, end=END, name=None):
        store = self.store(engine, name)
        store.materialize(start, end)
        return self.rows(store), state_of(store)


def state_of(store):
    view = store.get_feature_view("view")
    assert view.state == FeatureViewState.AVAILABLE_ONLINE
    return view.state, view.materialization_intervals


def frame_of(n, entities, seed=0, ties=False):
    """Rows with values of all types and some nulls; numbers that a float64 cannot hold apart."""
    rng = np.random.default_rng(seed)
    seconds = rng.integers(0, 5, n) if ties else rng.permutation(n * 1000)[:n]
    frame = pd.DataFrame(
        {
            "user": rng.integers(-entities, entities, n),
            "näme": rng.choice(["", "ä", "b" * 200, "日本"], n),
            "at": pd.Timestamp(START) + pd.to_timedelta(seconds, unit="s"),
            "made": pd.Timestamp(START) + pd.to_timedelta(rng.integers(0, 3, n), unit="D"),
            "f64": rng.choice([0.0, -0.0, 1.5, 1e300, np.inf, np.nan, 0.1], n),
            "f32": rng.choice([0.0, 0.1, 3.0e38, np.nan], n).astype("f4"),
            "i64": rng.choice([0, 1, -1, 2**40, -(2**52)], n),
            "i32": rng.choice([0, 1, -1, 2**31 - 1], n).astype("i4"),
            "text": rng.choice(["", "x", "é" * 100, None], n),
            "raw": rng.choice(np.array([b"\x00", b"\x00\xff", b"r" * 300, None], dtype=object), n),
            "yes": rng.choice(np.array([True, False, None], dtype=object), n),
            "seen": pd.Timestamp(START) + pd.to_timedelta(rng.integers(-9, 9, n) * 1e8, unit="s"),
        }
    )
    frame["many"] = [rng.normal(size=size).tolist() for size in rng.integers(1, 4, n)]
    return frame


@pytest.fixture(params=["sqlite", "redis", "subclass"])
def online(request, world):
    world.online = request.param


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("offline", "latest", "source_options", "join_keys"),
    [
        ("duckdb", False, {}, ["user"]),
        ("duckdb", True, {"created_timestamp_column": "made"}, ["user", "näme"]),
        ("dask", False, {"created_timestamp_column": "made"}, ["näme"]),
        ("dask", True, {}, ["user", "näme"]),
    ],
)
def test_the_bytes_online_and_the_registry_are_those_of_feast(
    world, offline, latest, source_options, join_keys
):
    world.offline, world.source_options, world.join_keys = offline, source_options, join_keys
    world.view_options = {"materialization": {"pull_latest_features": latest}}
    world.write(frame_of(3000, 200))
    rows, state = world.materialized(FEAST)
    assert world.materialized(ENGINE) == (rows, state)
    assert len(rows) > 3


@pytest.mark.parametrize("online", ["sqlite", "redis"], indirect=True)
def test_small_batches_give_the_same(world, online):
    world.write(frame_of(3000, 200), row_group_size=100)
    whole = world.materialized(ENGINE)
    world.view_options = {"materialization": {"online_write_batch_size": 7}}
    assert world.materialized(ENGINE, name="small") == whole


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("source_options", [{}, {"created_timestamp_column": "made"}])
def test_of_rows_that_tie_the_first_counts(world, seed, source_options):
    # Up to 16 rows pandas sorts stably; what Feast takes of more is arbitrary.
    world.source_options = source_options
    world.write(frame_of(16, 2, seed, ties=True))
    assert world.materialized(ENGINE) == world.materialized(FEAST)


@pytest.mark.usefixtures("online")
def test_a_field_mapping_and_times_of_any_zone_are_those_of_feast(world):
    frame = frame_of(300, 20).rename(columns={"user": "u", "f64": "F", "at": "AT", "i64": "I"})
    world.source_options = {"field_mapping": {"u": "user", "F": "f64", "AT": "at", "I": "i64"}}
    for zone in (None, "Asia/Tokyo"):
        world.write(frame.assign(AT=frame["AT"].dt.tz_convert(zone)))
        ours, theirs = (
            world.materialized(each, name=f"{each[:3]}_{str(zone)[:4]}") for each in (ENGINE, FEAST)
        )
        assert ours == theirs


@pytest.mark.parametrize("world_options", [{"key_ttl_seconds": 1000}, {"skip_dedup": True}])
def test_the_options_of_redis_are_kept(world, world_options):
    world.online, world.options = "redis", world_options
    world.write(frame_of(300, 20))
    assert world.materialized(ENGINE) == world.materialized(FEAST)


def test_materializing_again_changes_nothing(world, online):
    world.write(frame_of(300, 20))
    store = world.store(ENGINE)
    store.materialize(START, END)
    first = world.rows(store)
    store.materialize(START, END)
    assert world.rows(store) == first


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("seed", range(3))
def test_twelve_months_in_any_order_equal_one_straight_materialization(world, seed):
    rng = np.random.default_rng(seed)
    frame = frame_of(2000, 100, seed)
    year = (END - START).total_seconds()
    world.write(
        frame.assign(at=pd.Timestamp(START) + pd.to_timedelta(rng.uniform(0, year, 2000), unit="s"))
    )
    straight, _ = world.materialized(ENGINE)
    store = world.store(ENGINE, "backfill")
    months = list(pd.date_range(START, END, freq="MS"))
    windows = list(pairwise(month.to_pydatetime() for month in months))
    for month in rng.permutation(12):
        store.materialize(*windows[month])
    assert world.rows(store) == straight
    assert len(state_of(store)[1]) == 12


def test_feast_lets_an_older_window_overwrite_a_newer_one_in_sqlite(world):
    """The reason why we differ; when this fails, Feast has mended it."""
    frame = frame_of(2, 1).assign(user=1)
    frame["at"] = [pd.Timestamp(START) + pd.Timedelta(days=day) for day in (1, 40)]
    world.write(frame)
    straight, _ = world.materialized(FEAST)
    store = world.store(FEAST, "backfill")
    middle = START + timedelta(days=20)
    store.materialize(middle, END)
    store.materialize(START, middle)
    assert world.rows(store) != straight


@pytest.mark.parametrize("online", ["sqlite", "redis"], indirect=True)
def test_whole_numbers_keep_their_digits_beside_nulls(world, online):
    big = 2**60 + 1
    frame = frame_of(3, 1).assign(user=[1, 2, 3], i64=pd.array([big, None, 5], dtype="Int64"))
    world.dtypes = {"i64": Int64}
    world.write(frame)
    store = world.store(ENGINE)
    store.materialize(START, END)
    served = store.get_online_features(["view:i64"], [{"user": user} for user in (1, 2, 3)])
    assert served.to_dict()["i64"] == [big, None, 5]


@pytest.mark.parametrize("offline", ["duckdb", "dask"])
@pytest.mark.parametrize("online", ["sqlite", "redis"], indirect=True)
def test_rows_without_a_join_key_are_named_before_anything_is_written(world, online, offline):
    world.offline, world.dtypes = offline, {"f64": Float64}
    world.write(frame_of(3, 1).assign(user=pd.array([1, 2, None], dtype="Int64")))
    store = world.store(ENGINE)
    with pytest.raises(DataError, match="'view' have no 'user'"):
        store.materialize(START, END)
    assert not world.rows(store)
    assert store.get_feature_view("view").materialization_intervals == []


def test_a_value_that_its_type_cannot_hold_is_named(world):
    world.dtypes = {"i32": Int32}
    world.write(frame_of(3, 1).assign(i32=2**40))
    with pytest.raises(DataError, match=r"'i32' of the view 'view' is declared as Int32.*int64"):
        world.materialized(ENGINE)


def test_a_window_without_rows_is_recorded_and_writes_nothing(world, online):
    world.write(frame_of(3, 1))
    rows, (_, intervals) = world.materialized(ENGINE, END, END + timedelta(days=1))
    assert not rows
    assert intervals == [(END, END + timedelta(days=1))]


@pytest.mark.usefixtures("online")
def test_a_view_with_a_push_source_takes_the_rows_of_its_batch_source(world):
    world.pushed = True
    world.write(frame_of(300, 20))
    assert world.materialized(ENGINE) == world.materialized(FEAST)


def test_the_batch_source_of_a_push_source_may_map_its_fields(world):
    """Feast maps those of the push source, and finds no column then."""
    frame = frame_of(300, 20)
    world.write(frame)
    straight = world.materialized(ENGINE)
    world.pushed, world.source_options = True, {"field_mapping": {"F": "f64", "u": "user"}}
    world.write(frame.rename(columns={"f64": "F", "user": "u"}))
    assert world.materialized(ENGINE, name="mapped") == straight


def test_what_the_engine_does_not_know_it_leaves_to_feast(world):
    world.offline, world.join_keys = "dask", []
    world.write(frame_of(16, 1))
    assert world.materialized(ENGINE) == world.materialized(FEAST)


def doubled(frame):
    return frame.assign(f64=frame["f64"] * 2)


LEFT_TO_FEAST = {
    "transformed": (BatchFeatureView, {"online": True, "mode": "pandas", "udf": doubled}),
    "validated": (FeatureView, {"enable_validation": True}),
    "without entities": (FeatureView, {"entities": []}),
}


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("left", LEFT_TO_FEAST)
def test_what_is_left_to_feast_replaces_no_newer_rows(world, left):
    world.offline, world.dtypes = "dask", {"f64": Float64}
    world.kind, options = LEFT_TO_FEAST[left]
    world.kind_options = {key: value for key, value in options.items() if key != "entities"}
    world.join_keys = options.get("entities", world.join_keys)
    days = np.random.default_rng(0).permutation(300)
    frame = frame_of(300, 20)
    world.write(frame.assign(f64=days * 1.0, at=pd.Timestamp(START) + pd.to_timedelta(days, "D")))
    straight, _ = world.materialized(ENGINE)
    store = world.store(ENGINE, "backfill")
    middle = START + timedelta(days=150)
    store.materialize(middle, END)
    store.materialize(START, middle)
    assert world.rows(store) == straight


def test_rows_that_were_pushed_stay_until_newer_ones_come(world):
    world.pushed, world.dtypes = True, {"f64": Float64}
    world.write(frame_of(3, 1).assign(user=[1, 2, 3], f64=0.0))
    store = world.store(ENGINE)
    pushed = pd.DataFrame({"user": [1], "at": [pd.Timestamp(END)], "f64": [1.0]})
    store.push("live", pushed)
    store.materialize(START, END)
    served = store.get_online_features(["view:f64"], [{"user": user} for user in (1, 2, 3)])
    assert served.to_dict()["f64"] == [1.0, 0.0, 0.0]


def test_a_push_that_is_done_again_later_replaces_no_newer_rows(world, workspace):
    world.pushed, world.dtypes = True, {"f64": Float64}
    world.write(frame_of(2, 1))
    store = world.store(ENGINE)
    for day, value in ((2, 2.0), (1, 1.0)):
        at = pd.Timestamp(START) + pd.Timedelta(days=day)
        frame = pd.DataFrame({"user": [7, day], "at": [at, at], "f64": [value, value]})
        push_features(store, write_dataset(frame, "new", workspace, "test"), push_source="live")
    served = store.get_online_features(["view:f64"], [{"user": user} for user in (7, 1, 2)])
    assert served.to_dict()["f64"] == [2.0, 1.0, 2.0]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Australia/Lord_Howe"])
def test_times_are_kept_as_feast_keeps_them_in_any_zone_of_the_machine(world, zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    world.dtypes = {"f64": Float64}
    frame = frame_of(3000, 1000)
    half_hours = pd.to_timedelta(np.arange(3000) * 30, unit="m")
    world.write(frame.assign(at=pd.Timestamp("2024-03-01", tz="UTC") + half_hours))
    assert world.materialized(ENGINE) == world.materialized(FEAST)
    monkeypatch.undo()
    time.tzset()
