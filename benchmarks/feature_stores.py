"""What each of Feast's stores takes: to fill it, to serve from it, to join with it.

One view of ten floats, 100,000 entities with one row each (5,000 when quick), one process. Ours is
the store named, theirs the embedded default (SQLite online, DuckDB offline) in the same call.
`materialize` is entities a second into an empty online store; `serve` is milliseconds a request of
one row and of a hundred; `join` is entity rows a second through `historical_features`. The
servers run on the same machine, so that a real network adds its round trips. No goal is set.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import Float64
from sqlalchemy import create_engine, make_url

from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.steps.features.historical import historical_features
from airflow_mlops_provider.steps.snapshot import write_dataset
from benchmarks import Measure
from tests.servers import postgres_server, redis_server

START = pd.Timestamp("2024-01-01", tz="UTC")
END = START + pd.Timedelta(days=1)
FEATURES = [f"f{n}" for n in range(10)]
GOAL = "told, no goal"
_CONNECTION = "feast_benchmark"
_RATES = {"materialize": "ent/s", "join": "rows/s"}


def run(quick: bool) -> list[Measure]:
    """Measure each store once; requests 50 times when quick, else 300."""
    entities, requests = (5_000, 50) if quick else (100_000, 300)
    online: dict[str, dict[str, float]] = {}
    offline: dict[str, dict[str, float]] = {}
    with opened({}, 100) as (store, folder):  # what is loaded once counts for nobody
        served(store, 100, 1)
        joined(store, 100, folder)
    with stores() as (online_stores, offline_stores):
        for name, settings in online_stores.items():
            with opened({"online_store": settings}, entities) as (store, _):
                online[name] = served(store, entities, requests)
        for name, settings in offline_stores.items():
            with opened({"offline_store": settings}, entities) as (store, folder):
                offline[name] = {"join": joined(store, entities, folder)}
    return [*measures(online, "sqlite", requests), *measures(offline, "duckdb", 1)]


def measures(found: dict[str, dict[str, float]], default: str, n: int) -> list[Measure]:
    """Set each store beside the default one."""
    return [
        Measure(
            name=f"{store}: {what}",
            ours=value,
            theirs=found[default][what],
            unit=_RATES.get(what, "ms"),
            goal=GOAL,
            holds=True,
            n=1 if what in _RATES else n,
        )
        for store, figures in found.items()
        for what, value in figures.items()
    ]


@contextmanager
def stores() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Start the servers; give the settings of each online and each offline store."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server())
        url = make_url(stack.enter_context(postgres_server()))
        postgres = {
            "type": "postgres",
            "host": url.host,
            "port": url.port,
            "database": url.database,
            "user": url.username,
            "password": "",
            "sslmode": "disable",
        }
        online = {
            "sqlite": {"type": "sqlite"},
            "redis": {"type": "redis", "connection_string": redis.address},
            "postgres": postgres,
        }
        yield online, {"duckdb": {"type": "duckdb"}, "dask": {"type": "dask"}, "postgres": postgres}


@contextmanager
def opened(over: dict[str, Any], entities: int) -> Iterator[tuple[FeatureStore, str]]:
    """Give a feature store with one view, and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as folder:
        text = "project: bench\nprovider: local\noffline_store: {type: duckdb}\n"
        Path(folder, "feature_store.yaml").write_text(text + "entity_key_serialization_version: 3")
        connection = {"conn_type": "feast", "extra": over}
        os.environ[f"AIRFLOW_CONN_{_CONNECTION.upper()}"] = json.dumps(connection)
        store = FeastHook(_CONNECTION, folder, folder).get_conn()
        store.apply(definitions(over, folder, entities))
        yield store, folder


def definitions(over: dict[str, Any], folder: str, entities: int) -> list[Any]:
    """Write the rows, and return the entity and view that read them."""
    settings = over.get("offline_store", {})
    source: Any
    if settings.get("type") == "postgres":
        where = f"{settings['host']}:{settings['port']}/{settings['database']}"
        engine = create_engine(f"postgresql+psycopg://{settings['user']}@{where}")
        rows(entities).to_sql("rows", engine, index=False, method="multi", chunksize=1000)
        source = PostgreSQLSource(name="rows", table="rows", timestamp_field="event_timestamp")
    else:
        path = f"{folder}/rows.parquet"
        rows(entities).to_parquet(path, coerce_timestamps="us")
        source = FileSource(path=path, timestamp_field="event_timestamp")
    tank = Entity(name="tank", value_type=ValueType.INT64)
    schema = [Field(name=name, dtype=Float64) for name in FEATURES]
    view = FeatureView(
        name="tanks", entities=[tank], ttl=timedelta(days=9), schema=schema, source=source
    )
    return [tank, view]


def rows(entities: int) -> pd.DataFrame:
    """Return one row of each entity."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(entities, len(FEATURES))), columns=FEATURES)
    minutes = pd.to_timedelta(rng.integers(0, 24 * 60, entities), unit="min")
    return frame.assign(tank=range(entities), event_timestamp=START + minutes)


def served(store: FeatureStore, entities: int, requests: int) -> dict[str, float]:
    """Return entities a second into the store, and milliseconds a request out of it."""
    seconds = timed(lambda: store.materialize(START.to_pydatetime(), END.to_pydatetime()))
    rng = np.random.default_rng(1)
    references = [f"tanks:{name}" for name in FEATURES]

    def request(n: int) -> float:
        asked = [{"tank": int(tank)} for tank in rng.integers(0, entities, n)]
        return timed(lambda: store.get_online_features(references, asked).to_dict())

    request(1)
    found = {"materialize": entities / seconds}
    for n in (1, 100):
        found[f"serve {n}"] = 1000 * median(request(n) for _ in range(requests))
    return found


def joined(store: FeatureStore, entities: int, folder: str) -> float:
    """Return entity rows a second."""
    frame = rows(entities)[["tank"]].assign(event_timestamp=END)
    ref = write_dataset(frame, "asked", folder, "benchmark")
    references = [f"tanks:{name}" for name in FEATURES]
    return entities / timed(
        lambda: historical_features(store, ref, name="known", workspace=folder, features=references)
    )


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds that ``call`` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
