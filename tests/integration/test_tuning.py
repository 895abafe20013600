"""Searches that lose their process, share a database, or run on a cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from airflow_mlops_provider.records import SearchSpec
from airflow_mlops_provider.steps.snapshot import write_dataset
from airflow_mlops_provider.steps.track import TaskRun, experiment_id
from airflow_mlops_provider.steps.tune import tune_model
from tests.servers import need
from tests.training import spec_of

SPACE = {"max_depth": {"type": "int", "low": 1, "high": 40}}


class Slow(DecisionTreeClassifier):
    """A tree that takes a moment to grow."""

    def fit(self, *args, **kwargs):
        time.sleep(0.1)
        return super().fit(*args, **kwargs)


@pytest.fixture
def client(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    found = mlflow.MlflowClient(uri, uri)
    experiment_id(found, "tuning", str(tmp_path / "artifacts"))
    return found


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=400), "z": rng.normal(size=400)})
    frame["late"] = (frame["x"] + rng.normal(size=400) > 0).astype(float)
    return write_dataset(frame, "rows", str(tmp_path), "test")


def opened(client):
    experiment = experiment_id(client, "tuning", None)
    return TaskRun(client, client.create_run(experiment).info.run_id, experiment)


def spec_and_search(dataset, estimator=Slow, **changes):
    trusted = [f"{estimator.__module__}.{estimator.__qualname__}"]
    given = {"features": ["x", "z"], "target": "late", "trusted_types": trusted}
    return spec_of(dataset, estimator, **given), SearchSpec(**{"space": SPACE, **changes})


def table(client, run):
    uri = client.get_run(run.run_id).info.artifact_uri
    return mlflow.artifacts.load_dict(f"{uri}/trials.json")["trials"]


CHILD = """
import json, sys
from airflow_mlops_provider.records import SearchSpec, TrainingSpec
from airflow_mlops_provider.steps.track import TaskRun
from airflow_mlops_provider.steps.tune import run_trials, tune_model
import mlflow

step, spec, search, tracking, run_id, experiment, where = json.loads(sys.argv[1])
mlflow.set_tracking_uri(tracking)
run = TaskRun(mlflow.MlflowClient(tracking, tracking), run_id, experiment)
step = {"tune": tune_model, "work": run_trials}[step]
step(TrainingSpec.from_xcom(spec), SearchSpec.from_xcom(search), run=run,
     progress=lambda said: print(json.dumps(said), flush=True), **where)
"""


def in_process(step, spec, search, client, run, **where):
    """Run a step in a process of its own, which prints its progress."""
    given = [step, spec.to_xcom(), search.to_xcom(), client.tracking_uri]
    given += [run.run_id, run.experiment_id, where]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD, json.dumps(given)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        # shells let background jobs ignore it, and so would this process
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def progress(process, finished):
    """Wait until so many trials have finished, and return what was told last."""
    for line in process.stdout:
        if line.startswith("{") and (said := json.loads(line))["finished"] >= finished:
            return said
    raise AssertionError(f"The search ended with {process.wait()} before its time.")


def workers_of(process):
    return psutil.Process(process.pid).children(recursive=True)


def test_a_killed_search_loses_no_finished_trial(client, dataset, workspace):
    spec, search = spec_and_search(dataset, n_trials=14, n_workers=2)
    first, second = opened(client), opened(client)
    process = in_process("tune", spec, search, client, first, workspace=workspace)
    progress(process, 4)
    workers = workers_of(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert psutil.wait_procs(workers, timeout=60)[1] == []

    tune_model(spec, search, run=second, workspace=workspace)
    rows = table(client, second)
    states = [row["state"] for row in rows]
    assert states.count("COMPLETE") == 14
    assert states.count("INTERRUPTED") <= 2
    assert len(states) == 14 + states.count("INTERRUPTED")
    again = [row["params"] for row in rows if row["state"] == "COMPLETE"]
    for row in rows:
        assert row["state"] == "COMPLETE" or row["params"] in [{}, *again]
    logged = client.search_runs([first.experiment_id], "tags.`mlops.study` != ''")
    numbers = [each.data.tags["mlops.trial"] for each in logged]
    assert sorted(map(int, numbers)) == [row["number"] for row in rows]
    assert {each.info.status for each in logged} <= {"FINISHED", "KILLED"}


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGINT])
def test_a_search_that_is_told_to_end_leaves_no_process_behind(client, dataset, workspace, kill):
    spec, search = spec_and_search(dataset, n_trials=500, n_workers=2)
    process = in_process("tune", spec, search, client, opened(client), workspace=workspace)
    progress(process, 2)
    workers = workers_of(process)
    assert len(workers) >= 2
    process.send_signal(kill)
    process.wait(60)
    assert psutil.wait_procs(workers, timeout=60)[1] == []


@pytest.fixture(params=["journal", "postgres"])
def where(request, workspace):
    if request.param == "journal":
        return {"workspace": workspace}
    need("psycopg2", "pip install psycopg2-binary")
    url = request.getfixturevalue("postgres")
    return {"workspace": "s3://nowhere", "storage": url}


def test_workers_share_a_study(client, dataset, where):
    spec, search = spec_and_search(dataset, n_trials=12)
    runs = [opened(client), opened(client)]
    workers = [
        in_process("work", spec, search, client, run, **where, worker=number)
        for number, run in enumerate(runs)
    ]
    for worker in workers:
        worker.stdout.read()
        assert worker.wait() == 0
    last = opened(client)
    tune_model(spec, search, run=last, **where)
    rows = table(client, last)
    assert [row["state"] for row in rows] == ["COMPLETE"] * 12
    logged = client.search_runs([last.experiment_id], "tags.`mlops.study` != ''")
    assert len(logged) == 12
    assert {each.data.tags["mlflow.parentRunId"] for each in logged} <= {r.run_id for r in runs}


@pytest.mark.slow
def test_a_database_gives_the_trials_of_a_dead_worker_to_another(
    client, dataset, postgres, monkeypatch
):
    from airflow_mlops_provider.steps.tune import study

    need("psycopg2", "pip install psycopg2-binary")
    where = {"workspace": "s3://nowhere", "storage": postgres}
    spec, search = spec_and_search(dataset, n_trials=6, study="mortal")
    process = in_process("work", spec, search, client, opened(client), **where)
    progress(process, 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(study, "GRACE_SECONDS", 2)
    monkeypatch.setattr(study, "HEARTBEAT_SECONDS", 1)
    last = opened(client)
    tune_model(spec, search, run=last, **where)
    states = [row["state"] for row in table(client, last)]
    assert states.count("COMPLETE") == 6
    assert states.count("INTERRUPTED") <= 1


@pytest.fixture
def backend(request, monkeypatch):
    """The arguments of a backend, on this machine."""
    name, module, extra = request.param
    need(module, f"pip install 'airflow-provider-mlops[{extra}]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folder = tempfile.mkdtemp(prefix="ray-")  # a path for sockets has to be short
    address = {"_node_ip_address": "127.0.0.1", "_temp_dir": folder}
    yield {"joblib_backend": name, "backend_params": address if name == "ray" else {}}
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend",
    [("ray", "ray", "ray"), ("dask", "distributed", "dask"), ("spark", "joblibspark", "spark")],
    indirect=True,
    ids=lambda given: given[0],
)
@pytest.mark.parametrize("method", ["optuna", "random"])
def test_trials_and_fits_run_on_a_cluster(client, dataset, workspace, backend, method):
    changes = {
        "n_trials": 4,
        "n_workers": 2,
        "method": method,
        "space": {"max_depth": SPACE["max_depth"]},
    }
    spec, search = spec_and_search(dataset, RandomForestClassifier, **changes, **backend)
    run = opened(client)
    tune_model(spec, search, run=run, workspace=workspace)
    rows = table(client, run)
    assert [row["state"] for row in rows] == ["COMPLETE"] * 4
