"""Versions of a pipeline promoted under a real Airflow, whose GitDagBundle follows a branch."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from airflow_mlops_provider.records import PipelineBuild
from airflow_mlops_provider.stack.local import LocalStack
from airflow_mlops_provider.stack.service import stop_all, wait_until_healthy
from tests.forges import Forge

pytestmark = pytest.mark.slow
SECONDS = 400.0
DAGS = Path(__file__).resolve().parents[2] / "dags"
TRAIN = """
import os, time
from airflow.sdk import DAG, task

with DAG("train", params={"where": "", "hold": ""}, is_paused_upon_creation=False):
    @task
    def begin(params):
        while params["hold"] and not os.path.exists(params["hold"]):
            time.sleep(0.2)

    @task
    def evaluate(params):
        if BROKEN and params["where"] == "production":
            raise RuntimeError("only here")
        return {"version": VERSION, "metrics": {"auc": 0.9}}

    begin() >> evaluate()
"""


def files(version, broken=False):
    """The same DAG for Airflow, with other code in its tasks."""
    return {"dags/train.py": TRAIN.replace("VERSION", str(version)).replace("BROKEN", str(broken))}


class GitStack(LocalStack):
    """An Airflow that delivers to itself: the DAG of CD, and a bundle that follows a branch."""

    def __init__(self, home: Path, dags: Path, forge: Forge) -> None:
        super().__init__(home, dags)
        self.forge = forge

    def airflow_env(self):
        """Add the bundles, the environment's file and the Connection to ourselves."""
        followed = {
            "repo_url": self.forge.address,
            "tracking_ref": "production",
            "subdir": "dags",
            "refresh_interval": 5,
        }
        bundles = [
            {
                "name": "cd",
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(self.dags_folder)},
            },
            {
                "name": "pipeline",
                "classpath": "airflow.providers.git.bundles.git.GitDagBundle",
                "kwargs": followed,
            },
        ]
        connection = {
            "conn_type": "airflow_api",
            "host": self.airflow_url,
            "login": "admin",
            "password": self.password,
        }
        return {
            **super().airflow_env(),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.home / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "2",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
            "AIRFLOW_CONN_AIRFLOW_PRODUCTION": json.dumps(connection),
            "MLOPS_PIPELINE_ENVIRONMENTS": str(self.home / "environments.json"),
        }


@pytest.fixture(scope="module")
def forge(tmp_path_factory):
    made = Forge(tmp_path_factory.mktemp("forge"))
    made.pushed(files(1))
    made.git("push", "--quiet", "origin", "main:production")
    return made


@pytest.fixture(scope="module")
def stack(tmp_path_factory, forge):
    home = tmp_path_factory.mktemp("stack")
    (home / "dags").mkdir()
    shutil.copy(DAGS / "level2_pipeline_cd.py", home / "dags")
    environment = {
        "name": "production",
        "repository": forge.address,
        "ref": "production",
        "airflow_conn_id": "airflow_production",
        "bundle": "pipeline",
        "dag_id": "train",
        "conf": {"where": "production"},
        "metrics_task": "evaluate",
        "bounds": {"auc": [0.8, None]},
        "approval": True,
    }
    (home / "environments.json").write_text(json.dumps([environment]))
    (home / "airflow").mkdir()
    passwords = home / "airflow" / "simple_auth_manager_passwords.json.generated"
    passwords.write_text(json.dumps({"admin": "of this test"}))
    running = GitStack(home, home / "dags", forge)
    airflow = running._airflow()  # MLflow and the serving host are not needed
    airflow.start()
    try:
        wait_until_healthy([airflow], SECONDS, print)
        yield running
    finally:
        stop_all([airflow])


@pytest.fixture(scope="module")
def client(stack):
    opened = stack.client()
    for dag_id in ("train", "level2_pipeline_cd"):
        opened.wait_for_dag(dag_id, SECONDS)
    return opened


def published(forge, stack, commit):
    """The manifest of a version, as CI leaves it."""
    build = PipelineBuild(
        repository=forge.address,
        commit=commit,
        tree="t",
        author="Ada",
        committed_at="2026-01-01T00:00:00+00:00",
        subject="change",
        source_uri="/s",
        source_sha256="s",
        name="shop",
        version="1",
        wheel_uri="/w",
        wheel_sha256="w",
        builders={},
    )
    content = {
        "build": build.to_xcom(),
        "files": {"wheel": {"uri": "/w"}, "source": {"uri": "/s"}},
    }
    file = stack.home / f"{commit}.json"
    file.write_text(json.dumps(content))
    return str(file)


def until(true, what):
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(1)


def delivered(client, manifest):
    """Run the DAG of CD, approve what it asks for, and return how it and its tasks ended."""
    run = client.trigger("level2_pipeline_cd", {"manifest": manifest})

    def states():
        return client.task_states("level2_pipeline_cd", run)

    until(lambda: states().get("production.approve") in ("awaiting_input", "deferred"), states)
    # No person is that fast: Airflow fails a task that was answered before its executor has
    # reported that it waits, which nothing shows from outside.
    time.sleep(5)
    path = f"/api/v2/dags/level2_pipeline_cd/dagRuns/{run}/taskInstances/production.approve"
    answer = {"chosen_options": ["Approve"], "params_input": {}}
    client._call("PATCH", f"{path}/-1/hitlDetails", json=answer)
    return client.wait("level2_pipeline_cd", run, SECONDS), states()


def served(client):
    return client._call("GET", "/api/v2/dags/train")["bundle_version"]


def version_of(client, run):
    assert client.wait("train", run, SECONDS) == "success"
    return client.xcom("train", run, "evaluate")["version"]


def test_versions_are_promoted_and_rolled_back(forge, stack, client):
    first = forge.git("rev-parse", "HEAD")
    until(lambda: served(client) == first, lambda: served(client))
    hold = stack.home / "hold"
    active = client.trigger("train", {"hold": str(hold)})
    until(
        lambda: client.task_states("train", active).get("begin") == "running",
        lambda: client.log_tail("train", active, "begin"),
    )

    good = forge.pushed(files(2))
    state, tasks = delivered(client, published(forge, stack, good))
    assert state == "success", tasks
    assert tasks["production.roll_back"] == "skipped"
    assert served(client) == good
    assert version_of(client, client.trigger("train")) == 2

    hold.touch()
    assert version_of(client, active) == 1, "a run has to finish on the version it began with"

    bad = forge.pushed(files(3, broken=True))
    state, tasks = delivered(client, published(forge, stack, bad))
    assert state == "failed"
    assert tasks["production.wait"] == "success", tasks
    assert tasks["production.check"] == "failed"
    assert tasks["production.roll_back"] == "success", tasks
    assert forge.git("ls-remote", "origin", "production").split()[0] == good
    assert served(client) == good
    assert version_of(client, client.trigger("train")) == 2

    missing = forge.pushed({"dags/train.py": f"import nothing_of_this_name\n{TRAIN}"})
    state, tasks = delivered(client, published(forge, stack, missing))
    assert state == "failed"
    assert tasks["production.wait"] == "failed"
    assert tasks["production.check"] == "upstream_failed"
    assert tasks["production.roll_back"] == "success", tasks
    assert version_of(client, client.trigger("train")) == 2
