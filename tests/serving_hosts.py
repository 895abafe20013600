"""Serving hosts in processes of their own, load on them, and models for them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import cloudpickle
import httpx
import mlflow
import numpy as np
import pandas as pd
import psutil
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import Schema, TensorSpec
from sklearn.linear_model import LogisticRegression

from airflow_mlops_provider.serving import keeper
from airflow_mlops_provider.serving.client import ServingClient

ROW = {"dataframe_split": {"columns": ["x", "y"], "data": [[0.5, 0.2]]}}


class Host:
    """A serving host in a process of its own."""

    def __init__(self, workspace: Path, tracking_uri: str, *extra: str) -> None:
        self.workspace = workspace
        self.process = start(workspace, "--tracking-uri", tracking_uri, *extra)
        self.client = ServingClient.from_workspace(str(workspace))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def children(self) -> list[tuple[int, list[str]]]:
        """Process ids and command lines of router, scorers and keeper."""
        return children(self.workspace)

    def router_pids(self) -> list[int]:
        return [pid for pid, arguments in self.children() if "--disable-hot-restart" in arguments]

    def scorer_pids(self) -> dict[str, int]:
        return {
            arguments[arguments.index("--deployment") + 1]: pid
            for pid, arguments in self.children()
            if "--deployment" in arguments
        }

    def close(self) -> None:
        """End the host and all that it started, whatever a failed test left."""
        self.process.kill()
        self.process.communicate()
        keeper.end(keeper.children_of(self.workspace / "serving"))


def start(workspace: Path, *extra: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "airflow_mlops_provider.cli", "serve"]
    command += ["--workspace", str(workspace), "--port", "0", "--admin-port", "0", *extra]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: published_by(workspace, process.pid) or process.poll() is not None, 90)
    return process


def published_by(workspace: Path, pid: int) -> bool:
    path = workspace / "serving" / "host.json"
    return path.exists() and json.loads(path.read_text())["pid"] == pid


def children(workspace: Path) -> list[tuple[int, list[str]]]:
    found = []
    for process in keeper.children_of(workspace / "serving"):
        with suppress(psutil.Error):
            found.append((process.pid, " ".join(process.cmdline()).replace("=", " ").split(" ")))
    return found


def alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return keeper.runs(psutil.Process(pid))
    return False


def until(holds, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@contextmanager
def load(url: str, rate: float = 30, row: dict | None = None):
    """Send requests at a bounded rate; gives the list of (status, deployment) seen."""
    row = row or ROW
    seen: list[tuple[int, str | None]] = []
    ended = threading.Event()

    def run() -> None:
        with httpx.Client(timeout=40) as client:
            while not ended.wait(2 / rate):
                try:
                    answer = client.post(f"{url}/invocations", json=row)
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


def put(client: ServingClient, endpoint: str, traffic: dict[str, int], **more):
    generation = client.get_state(endpoint).generation
    return client.set_traffic(endpoint, traffic, generation=generation, **more)


def registry(root: Path) -> str:
    """Make an MLflow store in ``root`` the one of this process; return its URI."""
    uri = f"sqlite:///{root}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment("serving", artifact_location=str(root / "artifacts"))
    )
    return uri


def frame_of(n: int = 200) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(n, 2)), columns=["x", "y"])


def log_classifier(name: str, strength: float = 1.0) -> str:
    """Log a logistic regression of x, and return its URI."""
    frame = frame_of()
    model = LogisticRegression(C=strength).fit(frame, (frame["x"] > 0).astype(int))
    return mlflow.sklearn.log_model(
        model,
        name=name,
        signature=infer_signature(frame, model.predict_proba(frame)),
        pyfunc_predict_fn="predict_proba",
        pip_requirements=["scikit-learn"],
    ).model_uri


def log_function(name: str, model: mlflow.pyfunc.PythonModel) -> str:
    """Log a model of Python code that gives one number a row, and return its URI."""
    cloudpickle.register_pickle_by_value(sys.modules[type(model).__module__])  # scorers lack tests
    outputs = Schema([TensorSpec(np.dtype("float64"), (-1,))])
    return mlflow.pyfunc.log_model(
        name=name,
        python_model=model,
        signature=ModelSignature(inputs=infer_signature(frame_of()).inputs, outputs=outputs),
        pip_requirements=["scikit-learn"],
    ).model_uri
