"""Materialization under a real scheduler and executor whose workers are killed and told to stop."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
from feast.feature_view import FeatureViewState

from airflow_mlops_provider.stack.local import USER, LocalStack
from airflow_mlops_provider.steps.features.registry import registry_lock
from airflow_mlops_provider.steps.features.repo import apply_features
from tests.feast_repos import (
    DEFINITIONS,
    SECOND_VIEW,
    START,
    intervals_of,
    online_rows,
    open_store,
    served,
    take_online,
    write_repo,
)

pytestmark = pytest.mark.slow  # minutes, and make test has to fit in CI's time

N_ENTITIES = 20_000
"""Each has one row a day."""
STORES = """\
materialization: {{online_write_batch_size: 1000}}
registry: {folder}/registry.db
online_store: {{type: sqlite, path: {folder}/online.db}}
"""
DAG = """
from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_mlops_provider.operators import FeastMaterializeOperator

with DAG(
    "materialize",
    schedule=None,
    params={name: Param(None) for name in ("repo", "views", "start", "end", "chunk")},
    render_template_as_native_obj=True,
):
    FeastMaterializeOperator(
        task_id="materialize",
        repo_path="{{ params.repo }}",
        feature_views="{{ params.views }}",
        start="{{ params.start }}",
        end="{{ params.end }}",
        chunk="{{ params.chunk }}",
        retries=1,
        retry_delay=timedelta(0),
    )
"""


class ImpatientStack(LocalStack):
    """Airflow notices within seconds that a worker is gone."""

    def airflow_env(self) -> dict[str, str]:
        return {
            **super().airflow_env(),
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "6",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
        }


class Runs:
    """Runs of the DAG, started and meddled with through Airflow's API."""

    def __init__(self, stack: LocalStack) -> None:
        self.client = stack.client()
        login = {"username": USER, "password": stack.password}
        token = httpx.post(f"{stack.airflow_url}/auth/token", json=login).json()["access_token"]
        self._http = httpx.Client(
            base_url=f"{stack.airflow_url}/api/v2/dags/materialize",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )

    def start(self, repo: str, views: Any, first: int, last: int, chunk: str = "P1D") -> str:
        conf = {"repo": repo, "views": views, "chunk": chunk}
        window = {"start": day(first).isoformat(), "end": day(last).isoformat()}
        return self.client.trigger("materialize", {**conf, **window})

    def task(self, run: str) -> dict[str, Any]:
        """Return the state of the run's task; nothing before its run has begun."""
        found = self._call("GET", f"/dagRuns/{run}/taskInstances")["task_instances"]
        return dict(found[0]) if found else {}

    def mark_failed(self, run: str) -> None:
        path = f"/dagRuns/{run}/taskInstances/materialize"
        self._call("PATCH", path, json={"new_state": "failed"})

    def clear(self, run: str) -> None:
        body = {"dry_run": False, "dag_run_id": run, "task_ids": ["materialize"]}
        self._call("POST", "/clearTaskInstances", json=body)

    def wait(self, run: str) -> str:
        return self.client.wait("materialize", run, 120)

    def log(self, run: str, try_number: int = 1) -> str:
        if not self.task(run).get("pid"):
            return ""
        return self.client.log_tail("materialize", run, "materialize", try_number, lines=100)

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self._http.request(method, path, **options)
        assert answer.is_success, answer.text
        return dict(answer.json())


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("faults")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "materialize.py").write_text(DAG)
    with ImpatientStack(folder / "home", dags) as stack:
        started = Runs(stack)
        started.client.wait_for_dag("materialize")
        yield started


@pytest.fixture
def make_repo(tmp_path, workspace, monkeypatch):
    """Write and apply a repository whose stores lie beside it."""
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", '{"conn_type": "feast"}')

    def made(name: str) -> str:
        folder = tmp_path / name
        repo = write_repo(folder, definitions=DEFINITIONS + SECOND_VIEW, rows=rows())
        config = folder / "feature_store.yaml"
        stores = STORES.format(folder=folder)
        config.write_text(config.read_text().replace("online_store: {type: sqlite}\n", stores))
        apply_features(open_store(repo), repo)
        return repo

    return made


@pytest.fixture
def repo(make_repo) -> str:
    """A repository whose first day is served."""
    made: str = make_repo("repo")
    take_online(open_store(made), "weather", day(0), day(1))
    return made


@pytest.fixture
def straight(make_repo) -> str:
    """A repository that was materialized at one go and in peace."""
    made: str = make_repo("straight")
    take_online(open_store(made), None, day(0), day(4))
    return made


@contextmanager
def written_slowly(repo: str, rows_at_once: int) -> Iterator[None]:
    """Let tasks that start meanwhile commit every few rows: a day of single rows takes 20 s."""
    config = Path(repo, "feature_store.yaml")
    before = config.read_text()
    config.write_text(before.replace("batch_size: 1000", f"batch_size: {rows_at_once}"))
    yield
    config.write_text(before)


def day(n: int) -> datetime:
    return (START + pd.Timedelta(days=n)).to_pydatetime()


def rows() -> pd.DataFrame:
    names = ["JFK", *(f"airport {n}" for n in range(1, N_ENTITIES))]
    rng = np.random.default_rng(0)
    hours = pd.to_timedelta(rng.integers(1, 24, N_ENTITIES), unit="h")
    return pd.concat(
        pd.DataFrame(
            {
                "origin": names,
                "event_timestamp": START + pd.Timedelta(days=n) + hours,
                "temp": rng.normal(size=N_ENTITIES),
            }
        )
        for n in range(4)
    )


def n_online(repo: str, since: datetime) -> int:
    """Return how many entities have a row online that is newer than a moment."""
    with sqlite3.connect(Path(repo, "online.db"), timeout=30) as connection:
        query = "SELECT count(*) FROM p_weather WHERE event_ts > ?"
        return int(connection.execute(query, [int(since.timestamp())]).fetchone()[0])


def same_rows(one: str, other: str, view: str = "weather") -> bool:
    """Tell whether two repositories have the same online rows."""
    return online_rows(open_store(one), view) == online_rows(open_store(other), view)


def until(true: Callable[[], Any], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} within {seconds:g} s"
        time.sleep(0.05)


def in_the_middle(runs: Runs, run: str, repo: str, since: datetime) -> psutil.Process:
    """Wait until some rows of the day are online; return the task's process."""
    until(lambda: runs.task(run).get("pid"), "Expected a task to run")
    task = psutil.Process(runs.task(run)["pid"])
    until(lambda: n_online(repo, since) > N_ENTITIES // 20, "Expected rows online")
    return task


def test_a_killed_worker_is_noticed_and_its_retry_completes(runs, repo, straight):
    with written_slowly(repo, 10):
        run = runs.start(repo, "weather", 1, 4)
        task = in_the_middle(runs, run, repo, day(2))
        for process in (task.parent(), task):
            process.kill()
    assert 0 < n_online(repo, day(2)) < N_ENTITIES
    assert intervals_of(repo) == [(day(0), day(1)), (day(1), day(2))]
    assert served(open_store(repo)) is not None
    assert runs.wait(run) == "success"
    assert runs.task(run)["try_number"] == 2
    assert "was done by an earlier try" in runs.log(run, 2)
    assert intervals_of(repo) == [(day(n), day(n + 1)) for n in range(4)]
    assert same_rows(repo, straight)
    assert served(open_store(repo)) == served(open_store(straight))


def test_a_task_marked_as_failed_stops_heals_and_completes_when_cleared(runs, repo, straight):
    with written_slowly(repo, 1):
        run = runs.start(repo, "weather", 1, 4, chunk="")
        task = in_the_middle(runs, run, repo, day(1))
    store = open_store(repo)
    with registry_lock(store):  # as `feast materialize` does beside it
        view = store.get_feature_view("weather")
        view.state = FeatureViewState.MATERIALIZING
        store.registry.apply_feature_view(view, "p")
    runs.mark_failed(run)
    task.wait(60)
    assert 0 < n_online(repo, day(1)) < N_ENTITIES
    assert intervals_of(repo) == [(day(0), day(1))]
    assert served(open_store(repo)) is not None
    assert "Task exited" in runs.log(run)
    runs.clear(run)
    assert runs.wait(run) == "success"
    assert intervals_of(repo) == [(day(0), day(1)), (day(1), day(4))]
    assert same_rows(repo, straight)


def test_runs_at_once_of_the_same_and_other_views_lose_no_interval(runs, make_repo, straight):
    repo = make_repo("shared")
    windows = [("weather", 0, 3), (["weather", "climate"], 1, 4), ("climate", 0, 2)]
    with registry_lock(open_store(repo)):
        started = [runs.start(repo, *window) for window in windows]
        until(
            lambda: all("Waiting for another" in runs.log(run) for run in started),
            "Expected all to wait for the registry",
        )
    assert [runs.wait(run) for run in started] == ["success"] * 3
    for view in ("weather", "climate"):
        assert intervals_of(repo, view) == [(day(n), day(n + 1)) for n in range(4)]
        assert same_rows(repo, straight, view)
