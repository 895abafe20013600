"""Feast repositories on disk with known rows, and processes that work on them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.steps.features.materialize import materialize

ROOT = Path(__file__).resolve().parents[1]
START = pd.Timestamp("2013-01-01", tz="UTC")
NOW = datetime(2014, 1, 1, tzinfo=UTC)
DEFINITIONS = """
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

origin = Entity(name="origin", value_type=ValueType.STRING)
source = FileSource(path="{source}", timestamp_field="event_timestamp")
weather = FeatureView(
    name="weather", entities=[origin], ttl=timedelta(hours=6),
    schema=[Field(name="temp", dtype=Float64)], source=source,
)
service = FeatureService(name="service", features=[weather])
"""
SECOND_VIEW = """
climate = FeatureView(
    name="climate", entities=[origin], ttl=timedelta(days=400),
    schema=[Field(name="temp", dtype=Float64)], source=source,
)
"""
CONFIG = """
project: p
provider: local
offline_store: {{type: {offline}}}
online_store: {{type: sqlite}}
entity_key_serialization_version: 3
"""


def observations(days: int = 30, n: int = 200) -> pd.DataFrame:
    """Rows of two airports at ``n`` hours."""
    rng = np.random.default_rng(0)
    hours = np.sort(rng.choice(24 * days, n, replace=False))
    return pd.concat(
        pd.DataFrame(
            {
                "origin": origin,
                "event_timestamp": START + pd.to_timedelta(hours, unit="h"),
                "temp": rng.normal(size=n),
            }
        )
        for origin in ("EWR", "JFK")
    )


def write_repo(
    folder: Path,
    offline: str = "duckdb",
    definitions: str = DEFINITIONS,
    *,
    rows: pd.DataFrame | None = None,
    config: str = "",
) -> str:
    """Write a repository and its source; return its path."""
    folder.mkdir()
    source = folder / "weather.parquet"
    frame = observations() if rows is None else rows
    frame.to_parquet(source, index=False, coerce_timestamps="us")
    (folder / "feature_store.yaml").write_text(CONFIG.format(offline=offline) + config)
    redefine(str(folder), definitions)
    return str(folder)


def redefine(repo: str, definitions: str) -> None:
    source = Path(repo, "weather.parquet")
    Path(repo, "definitions.py").write_text(definitions.format(source=source))


def open_store(repo: str) -> Any:
    return FeastHook(repo_path=repo).get_conn()


def take_online(store: Any, views: Any, start: Any, end: Any, **options: Any) -> list[str]:
    return materialize(store, views, start, end, **{"now": NOW, **options})


def intervals_of(repo: str, view: str = "weather") -> list[tuple[datetime, datetime]]:
    return sorted(open_store(repo).get_feature_view(view).materialization_intervals)


def online_rows(store: Any, view: str = "weather") -> list[tuple[Any, ...]]:
    with sqlite3.connect(store.config.online_store.path) as connection:
        query = f"SELECT entity_key, feature_name, value, event_ts FROM p_{view}"  # noqa: S608  # a name of ours
        return sorted(connection.execute(query).fetchall())


def served(store: Any, origin: str = "JFK") -> float | None:
    return store.get_online_features(
        features=store.get_feature_service("service"), entity_rows=[{"origin": origin}]
    ).to_dict()["temp"][0]


PROCESS = """
import os, signal, sys, time
from datetime import UTC, datetime, timedelta
from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.steps.features.materialize import materialize

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

store = FeastHook(repo_path=sys.argv[1]).get_conn()
start, now = datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC)
"""


def in_process(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Run ``code`` with ``store``, ``start``, ``now``, ``die`` and ``materialize`` at hand."""
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS + code, *arguments],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
