"""Scorers in processes of their own: killed, out of disk, and with every option."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from airflow_mlops_provider.serving.counters import Counters, counters_path
from airflow_mlops_provider.serving.prediction_log import close_orphans, read_segments

ROW = {"dataframe_split": {"columns": ["x", "y"], "data": [[0.5, 0.2]]}}


class Moody(mlflow.pyfunc.PythonModel):
    """Refuses every input, also that of its example."""

    def predict(self, context, model_input, params=None):
        raise ArithmeticError("not today")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{root}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment("scorer", artifact_location=str(root / "artifacts"))
    )
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["x", "y"])
    model = LogisticRegression().fit(frame, (frame["x"] > 0).astype(int))
    shared = {
        "signature": infer_signature(frame, model.predict_proba(frame)),
        "input_example": frame.head(3),
        "pip_requirements": ["scikit-learn"],
    }
    sound = mlflow.sklearn.log_model(
        model,
        name="sound",
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
        **shared,
    )
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the scorer has no tests
    moody = mlflow.pyfunc.log_model(name="moody", python_model=Moody(), **shared)
    return {"tracking_uri": uri, "sound": sound.model_uri, "moody": moody.model_uri}


@contextmanager
def scorer(folder: Path, models: dict[str, str], model: str = "sound", *extra: str):
    """Run a scorer; gives its process and a client."""
    command = [sys.executable, "-m", "airflow_mlops_provider.serving.scorer"]
    command += ["--endpoint=e", "--deployment=d", f"--model-uri={models[model]}"]
    command += [f"--tracking-uri={models['tracking_uri']}", f"--folder={folder}", *extra]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        url = f"http://127.0.0.1:{json.loads(line)['port']}" if line else ""
        with httpx.Client(base_url=url, timeout=30) as client:
            yield process, client
    finally:
        process.kill()
        process.wait(30)
        process.stderr.close()
        process.stdout.close()


def options(**given) -> str:
    return f"--options={json.dumps(given)}"


def logged(folder: Path) -> list[dict]:
    close_orphans(folder / "logs" / "e", set())
    return list(read_segments(folder / "logs" / "e"))


def counted(folder: Path, worker: int = 0) -> dict:
    return Counters(counters_path(folder, "e", "d", worker)).read()


def test_a_kill_under_load_loses_no_answered_prediction(tmp_path, models):
    answered: list[str] = []

    def ask(url: str, who: int) -> None:
        with httpx.Client(base_url=url) as client:
            for i in range(10_000):
                name = f"{who}-{i}"
                try:
                    answer = client.post("/invocations", json=ROW, headers={"x-request-id": name})
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    answered.append(name)

    with scorer(tmp_path, models) as (process, client):
        askers = [threading.Thread(target=ask, args=(str(client.base_url), i)) for i in range(4)]
        for each in askers:
            each.start()
        deadline = time.monotonic() + 30
        while len(answered) < 400:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        for each in askers:
            each.join()
    assert set(answered) <= {record["request_id"] for record in logged(tmp_path)}


@pytest.fixture
def small_disk(tmp_path):
    """A folder whose ``logs`` lie on a file system of 64 KiB."""
    disk = tmp_path / "logs" / "e"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield tmp_path
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("policy", ["fail", "drop"])
def test_a_full_disk_refuses_predictions_or_gives_them_unlogged(small_disk, models, policy):
    ballast = small_disk / "logs" / "e" / "ballast"
    with scorer(small_disk, models, "sound", options(on_log_failure=policy)) as (process, client):
        assert client.post("/invocations", json=ROW).status_code == 200
        fill(ballast)
        statuses = [client.post("/invocations", json=ROW).status_code for _ in range(20)]
        assert client.get("/ping").status_code == 200
        ballast.unlink()
        assert client.post("/invocations", json=ROW).status_code == 200
        counts = counted(small_disk)
        process.terminate()
        assert process.wait(20) in (0, -signal.SIGTERM)  # uvicorn raises it anew in the end
    refused = statuses.count(500 if policy == "fail" else 200)
    room_left = 20 - (refused if policy == "fail" else counts["unlogged"])
    assert room_left < 20
    assert set(statuses) <= ({200, 500} if policy == "fail" else {200})
    assert counts["requests"] == 22
    assert counts["errors"] == (refused if policy == "fail" else 0)
    assert len(logged(small_disk)) == 2 + room_left


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def test_a_model_that_fails_on_its_own_example_does_not_start(tmp_path, models):
    with scorer(tmp_path, models, "moody") as (process, _):
        assert process.wait(60) == 1
        last = process.stderr.read().strip().splitlines()[-1]
    assert "ModelError: Expected" in last
    assert "own input example, got ArithmeticError" in last


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"log_drop_columns": ["z"]}, "log_drop_columns parameter"),
        ({"native": "perhaps"}, "native"),
    ],
)
def test_an_option_that_cannot_be_kept_is_named(tmp_path, models, given, message):
    with scorer(tmp_path, models, "sound", options(**given)) as (process, _):
        assert process.wait(60) == 1
        assert message in process.stderr.read().strip().splitlines()[-1]


def test_each_worker_counts_in_a_file_of_its_own_and_hides_what_it_was_told_to(tmp_path, models):
    hide = options(log_drop_columns=["y"], log_hash_columns=["x", "entity_id"])
    headers = {"x-entity-id": "me"}
    for worker in (0, 2):
        with scorer(tmp_path, models, "sound", hide, f"--worker={worker}") as (_, client):
            answer = client.post("/invocations", json=ROW, headers=headers)
            assert answer.status_code == 200
            assert counted(tmp_path, worker)["scored"] == 1
            assert counted(tmp_path, worker)["score_sum"] == answer.json()["predictions"][0][1]
    assert (tmp_path / "counters/e/d.2.bin").exists()
    assert (tmp_path / "log-key").stat().st_mode & 0o777 == 0o600
    first, second = logged(tmp_path)
    assert [*first["inputs"]] == ["x"]
    assert first["inputs"] == second["inputs"]
    assert first["entity_id"] == second["entity_id"]
    assert len(first["inputs"]["x"]) == len(first["entity_id"]) == 32
