"""What breaks a training in production, done to real processes and a real MLflow server.

After each: no half-written model is READY, and the next attempt gives exactly one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression

from airflow_mlops_provider.records import ModelRef
from airflow_mlops_provider.stack.local import mlflow_server
from airflow_mlops_provider.stack.service import free_ports, stop_all, wait_until_healthy
from airflow_mlops_provider.steps.snapshot import write_dataset
from airflow_mlops_provider.steps.track import TaskRun
from airflow_mlops_provider.steps.train import train_model
from tests.training import spec_of

pytestmark = pytest.mark.slow  # minutes, and make test has to fit in CI's time

ROOT = Path(__file__).resolve().parents[2]
BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    service = mlflow_server(folder, url, folder / "server.log")
    service.start()
    try:
        wait_until_healthy([service], 120, lambda line: None)
        yield service
    finally:
        stop_all([service])


@pytest.fixture(scope="module")
def client(server):
    url = server.health_url.removesuffix("/health")
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    return mlflow.MlflowClient(url, url)


@pytest.fixture
def spec(tmp_path):
    rng = np.random.default_rng(0)
    hour = rng.normal(size=5_000)
    frame = pd.DataFrame({"hour": hour, "late": (hour + rng.normal(size=5_000) > 0).astype(int)})
    dataset = write_dataset(frame, "flights", str(tmp_path), "test")
    return spec_of(dataset, BOOSTING, features=["hour"], target="late")


@pytest.fixture
def attempt(client, request):
    """Open the MLflow run of an attempt at the task of this test."""
    experiment = client.create_experiment(request.node.name)

    def opened():
        return TaskRun(client, client.create_run(experiment).info.run_id, experiment)

    return opened


def models_of(run):
    found = run.client.search_logged_models([run.experiment_id])
    return {each.source_run_id: each for each in found}


def scores_of(model: ModelRef):
    rows = pd.DataFrame({"hour": [-1.0, 1.0]})
    return mlflow.pyfunc.load_model(model.model_uri).predict(rows)[:, 1]


PROCESS = """
import json, resource, sys, time
import mlflow
from airflow_mlops_provider.records import TrainingSpec
from airflow_mlops_provider.steps import train
from airflow_mlops_provider.steps.track import TaskRun

def hang(*_, **__):
    print("here", flush=True)
    time.sleep(600)

uri, run_id, experiment = sys.argv[1:4]
mlflow.set_tracking_uri(uri)
run = TaskRun(mlflow.MlflowClient(uri), run_id, experiment)
"""
TRAIN = "\ntrain.train_model(TrainingSpec.from_xcom(json.loads(sys.argv[4])), run=run)"
STAGES = {
    "while it learns": (
        "from sklearn.ensemble._hist_gradient_boosting.grower import TreeGrower as c\nc.grow = hang"
    ),
    "while it is uploaded": (
        "from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository as c\n"
        "send = c.log_artifact\n"
        "def once(self, *a, **k):\n"
        "    if '/models/' in self.artifact_uri:\n"
        "        c.log_artifact = hang\n"
        "    return send(self, *a, **k)\n"
        "c.log_artifact = once"
    ),
    "once it is uploaded": "run.client.finalize_logged_model = hang",
    "once it is ready": "train.log_model_metrics = hang",
}


def in_process(code, run, spec):
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-c", PROCESS + code + TRAIN),
            *(run.client.tracking_uri, run.run_id, run.experiment_id, json.dumps(spec.to_xcom())),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )


def kill_at(stage, run, spec):
    process = in_process(STAGES[stage], run, spec)
    while (line := process.stdout.readline()) and line.strip() != "here":
        pass
    assert process.poll() is None, process.stderr.read()
    process.kill()
    process.communicate()


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_leaves_no_half_written_model_and_a_retry_gives_one(attempt, spec, stage):
    killed, retried = attempt(), attempt()
    kill_at(stage, killed, spec)
    left = models_of(killed).get(killed.run_id)
    if stage == "while it learns":
        assert left is None
    elif stage == "once it is ready":
        # it is whole, but no task handed it over: its run ends as KILLED and nothing names it
        assert left.status == "READY"
    else:
        assert left.status == "PENDING"
    model = train_model(spec, run=retried)
    assert models_of(retried)[retried.run_id].status == "READY"
    low, high = scores_of(model)
    assert low < 0.3 < 0.7 < high
    assert len(models_of(retried)) == (1 if left is None else 2)


def test_a_process_that_takes_up_a_dead_ones_run_leaves_one_model_in_it(attempt, spec):
    run = attempt()
    kill_at("once it is ready", run, spec)
    before = models_of(run)[run.run_id].model_id
    model = train_model(spec, run=run)
    (found,) = run.client.search_logged_models([run.experiment_id])
    assert (found.model_id, found.status) == (model.model_id, "READY")
    assert model.model_id != before


FULL = """
fit = train.fit_model
def fill(*a, **k):
    fit(*a, **k)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
train.fit_model = fill
"""


def test_a_full_disk_is_said_and_costs_one_attempt(attempt, spec):
    failed, retried = attempt(), attempt()
    process = in_process(FULL, failed, spec)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "OSError: [Errno 27] The model could not be written (File too large). Make room" in said
    assert models_of(failed)[failed.run_id].status == "FAILED"
    assert scores_of(train_model(spec, run=retried)).shape == (2,)


class Paused(LogisticRegression):
    """Learns when it is told to."""

    learning, go_on = Event(), Event()

    def fit(self, *arguments, **named):
        self.learning.set()
        assert self.go_on.wait(60)
        return super().fit(*arguments, **named)


@pytest.fixture
def paused(spec):
    Paused.learning.clear()
    Paused.go_on.clear()
    path = f"{Paused.__module__}.Paused"
    return spec_of(spec.dataset, Paused, features=["hour"], target="late", trusted_types=[path])


def in_thread(spec, run):
    """Train beside the test until the estimator is to learn; give what came of it in the end."""
    ended = []

    def train():
        try:
            ended.append(train_model(spec, run=run, factory=Paused))
        except Exception as error:  # noqa: BLE001 - the test looks at any
            ended.append(error)

    thread = Thread(target=train)
    thread.start()
    assert Paused.learning.wait(60)

    def finish():
        thread.join(120)
        return ended[0]

    return finish


def test_a_training_outlives_a_restart_of_mlflow(server, attempt, paused):
    run = attempt()
    finish = in_thread(paused, run)
    stop_all([server])
    Paused.go_on.set()
    time.sleep(1)
    server.start()
    wait_until_healthy([server], 120, lambda line: None)
    model = finish()
    assert isinstance(model, ModelRef), model
    assert models_of(run)[run.run_id].status == "READY"


def test_without_mlflow_a_training_fails_so_that_it_is_retried(
    server, attempt, paused, monkeypatch
):
    failed, retried = attempt(), attempt()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    finish = in_thread(paused, failed)
    stop_all([server])
    Paused.go_on.set()
    error = finish()
    assert isinstance(error, MlflowException)
    assert failed.client.tracking_uri.removeprefix("http://").partition(":")[2] in str(error)
    server.start()
    wait_until_healthy([server], 120, lambda line: None)
    assert not models_of(failed)
    assert isinstance(train_model(paused, run=retried, factory=Paused), ModelRef)
