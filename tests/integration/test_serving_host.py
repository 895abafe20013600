"""The serving host with real Envoy, real scorers and real models from a real MLflow store."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import Schema, TensorSpec
from sklearn.linear_model import LogisticRegression

from airflow_mlops_provider.exceptions import (
    ModelError,
    ParameterError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.serving.client import ServingClient
from airflow_mlops_provider.serving.prediction_log import read_segments

ROW = {"dataframe_split": {"columns": ["x", "y"], "data": [[0.5, 0.2]]}}


class Host:
    """A serving host in a process of its own."""

    def __init__(self, workspace: Path, tracking_uri: str) -> None:
        self.workspace = workspace
        self.process = start(workspace, "--tracking-uri", tracking_uri)
        self.client = ServingClient.from_workspace(str(workspace))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def scorer_pids(self) -> dict[str, int]:
        return {
            arguments[arguments.index("--deployment") + 1]: pid
            for pid, arguments in children(self.process.pid)
            if "--deployment" in arguments
        }


def start(workspace: Path, *extra: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "airflow_mlops_provider.cli", "serve"]
    command += ["--workspace", str(workspace), "--port", "0", "--admin-port", "0", *extra]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: (workspace / "serving" / "host.json").exists() or process.poll() is not None, 90)
    return process


def children(parent: int) -> list[tuple[int, list[str]]]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                text = (stat.parent / "cmdline").read_text().replace("=", "\0")
                found.append((int(stat.parent.name), text.split("\0")))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status != "Z"


def until(holds, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@contextmanager
def load(url: str, rate: float = 30):
    """Send requests at a bounded rate; gives the list of (status, deployment) seen."""
    seen: list[tuple[int, str | None]] = []
    ended = threading.Event()

    def run() -> None:
        with httpx.Client(timeout=40) as client:
            while not ended.wait(2 / rate):
                try:
                    answer = client.post(f"{url}/invocations", json=ROW)
                    seen.append((answer.status_code, answer.headers.get("x-deployment")))
                except httpx.HTTPError as error:
                    seen.append((0, repr(error)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join()


class Broken(mlflow.pyfunc.PythonModel):
    """Raises on x > 1, and gives text where its signature promises numbers on x < 0."""

    def predict(self, context, model_input, params=None):
        x = model_input["x"].iloc[0]
        if x > 1:
            raise ArithmeticError("too large")
        return np.array(["text"] if x < 0 else [1.0])


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{root}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment("serving", artifact_location=str(root / "artifacts"))
    )
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 2)), columns=["x", "y"])
    labels = (frame["x"] > 0).astype(int)
    found = {"tracking_uri": uri}
    for name, strength in (("v1", 1.0), ("v2", 0.01)):
        model = LogisticRegression(C=strength).fit(frame, labels)
        found[name] = mlflow.sklearn.log_model(
            model,
            name=name,
            signature=infer_signature(frame, model.predict_proba(frame)),
            pyfunc_predict_fn="predict_proba",
            pip_requirements=["scikit-learn"],
        ).model_uri
    inputs = infer_signature(frame).inputs
    outputs = Schema([TensorSpec(np.dtype("float64"), (-1,))])
    found["broken"] = mlflow.pyfunc.log_model(
        name="broken",
        python_model=Broken(),
        signature=ModelSignature(inputs=inputs, outputs=outputs),
        pip_requirements=["scikit-learn"],
    ).model_uri
    return found


@pytest.fixture(scope="module")
def host(models, tmp_path_factory):
    running = Host(tmp_path_factory.mktemp("workspace"), models["tracking_uri"])
    yield running
    assert running.stop() == 0


@pytest.fixture
def client(host) -> ServingClient:
    return host.client


@pytest.fixture
def endpoint(client, models, request):
    name = request.node.name.replace("[", "-").rstrip("]")[:60]
    client.create_endpoint(name)
    yield name
    client.delete_endpoint(name)


def put(client: ServingClient, endpoint: str, traffic: dict[str, int], **more):
    generation = client.get_state(endpoint).generation
    return client.set_traffic(endpoint, traffic, generation=generation, **more)


def test_weights_move_under_load_without_a_failed_request(client, models, endpoint):
    client.create_deployment(endpoint, "champion", models["v1"])
    ref = client.create_deployment(endpoint, "candidate", models["v2"])
    assert ref.traffic == {}
    put(client, endpoint, {"champion": 100})
    with load(ref.url, rate=40) as seen:
        marks = []
        for champion in (100, 50, 0):
            put(client, endpoint, {"champion": champion, "candidate": 100 - champion})
            time.sleep(0.5)  # requests begun on the old weights end
            marks.append(len(seen))
            time.sleep(5)
            marks.append(len(seen))
    assert Counter(status for status, _ in seen) == {200: len(seen)}
    before, half, after = (
        Counter(name for _, name in seen[marks[i] : marks[i + 1]]) for i in (0, 2, 4)
    )
    assert set(before) == {"champion"}
    assert set(after) == {"candidate"}
    assert 0.3 < half["candidate"] / half.total() < 0.7
    counts = client.observe(endpoint)
    assert sum(counts[name]["requests"] for name in counts) == len(seen)
    assert all(counts[name]["errors"] == 0 for name in counts)
    assert counts["champion"]["latency_buckets"]["+Inf"] == counts["champion"]["requests"]
    client.rotate_logs(endpoint)
