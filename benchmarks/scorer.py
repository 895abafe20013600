"""Requests per CPU-second of the scorer, beside `mlflow models serve` on the same model.

Boosted trees on twelve numbers, some of them missing, with class probabilities as output. One
worker each, one client over one kept connection, the prediction log on. The CPU time is that of
the server's processes, so neither the client nor a busy machine counts.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks import Measure, in_turns

COLUMNS = 12
GOALS = {1: 3.0, 100: 2.0}
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
_READY_SECONDS = 120
_SCORER = ("-m", "airflow_mlops_provider.serving.scorer")


class Server:
    """A scoring server in processes of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._root = psutil.Process(process.pid)

    def per_cpu_second(self, body: bytes, n: int) -> float:
        """Send ``n`` requests and return how many of them a CPU-second is enough for."""
        self.post(body)
        before = self._cpu_seconds()
        for _ in range(n):
            self._post(body)
        return n / (self._cpu_seconds() - before)

    def post(self, body: bytes) -> Any:
        """Return the predictions of one request, over a new connection."""
        self.connection.close()  # a server drops one that was idle for some seconds
        return self._post(body)

    def _post(self, body: bytes) -> Any:
        headers = {"content-type": "application/json"}
        self.connection.request("POST", "/invocations", body, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {text[:500]!r}")
        return json.loads(text)["predictions"]

    def _cpu_seconds(self) -> float:
        everyone = [self._root, *self._root.children(recursive=True)]
        times = [each.cpu_times() for each in everyone]
        return sum(each.user + each.system for each in times)


def run(quick: bool) -> list[Measure]:
    """Compare requests of one row and of a hundred."""
    rounds = 3 if quick else 9
    measures = []
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        tracking_uri, model_uri = logged_model(folder)
        ours = stack.enter_context(scorer(folder, tracking_uri, model_uri))
        theirs = stack.enter_context(mlflow_server(tracking_uri, model_uri))
        for rows, goal in GOALS.items():
            body = payload(rows)
            if ours.post(body) != theirs.post(body):
                raise RuntimeError("The two servers do not answer the same.")
            n = 300 if rows == 1 else 100
            sides = in_turns(
                rounds,
                lambda body=body, n=n: ours.per_cpu_second(body, n),
                lambda body=body, n=n: theirs.per_cpu_second(body, n),
            )
            holds = sides[0] >= goal * sides[1]
            goal_text = f"ours >= {goal:g} x theirs"
            measures.append(
                Measure(f"scorer: rows {rows}", *sides, "req/s", goal_text, holds, rounds)
            )
    return measures


def payload(rows: int) -> bytes:
    """Return a request of so many rows."""
    import numpy as np

    values = np.random.default_rng(1).normal(size=(rows, COLUMNS)).round(6).tolist()
    values[0][3] = None
    split = {"columns": [f"x{i}" for i in range(COLUMNS)], "data": values}
    return json.dumps({"dataframe_split": split}).encode()


def logged_model(folder: Path) -> tuple[str, str]:
    """Log the model to a store of its own; return the tracking URI and the model's."""
    import mlflow
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.ensemble import HistGradientBoostingClassifier

    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    artifacts = str(folder / "artifacts")
    experiment_id = mlflow.create_experiment("scorer", artifact_location=artifacts)
    mlflow.set_experiment(experiment_id=experiment_id)
    numbers = np.random.default_rng(0).normal(size=(5000, COLUMNS))
    numbers[numbers > 2] = np.nan
    frame = pd.DataFrame(numbers, columns=[f"x{i}" for i in range(COLUMNS)])
    labels = (frame.fillna(0).sum(axis=1) > 0).astype(int)
    model = HistGradientBoostingClassifier(max_iter=60).fit(frame, labels)
    logged = mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(frame, model.predict_proba(frame)),
        input_example=frame.head(5),
        pyfunc_predict_fn="predict_proba",
        pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
    )
    return uri, logged.model_uri


@contextmanager
def scorer(
    folder: Path, tracking_uri: str, model_uri: str, program: Sequence[str] = _SCORER
) -> Iterator[Server]:
    """Run our scorer, or another ``program`` with its arguments."""
    command = [sys.executable, *program]
    command += ["--endpoint=e", "--deployment=d", f"--model-uri={model_uri}"]
    command += [f"--tracking-uri={tracking_uri}", f"--folder={folder / 'serving'}"]
    (folder / "serving").mkdir(exist_ok=True)
    with _running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Server(process, json.loads(process.stdout.readline())["port"])


@contextmanager
def mlflow_server(tracking_uri: str, model_uri: str) -> Iterator[Server]:
    """Run MLflow's own server."""
    from airflow_mlops_provider.stack.service import free_ports

    (port,) = free_ports(1)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", model_uri]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1"]
    environment = {**_ENVIRONMENT, "MLFLOW_TRACKING_URI": tracking_uri}
    with _running(command, env=environment, stdout=subprocess.DEVNULL) as process:
        server = Server(process, port)
        _wait_until_up(server.connection)
        yield server


@contextmanager
def _running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    options = {"env": _ENVIRONMENT, "stderr": subprocess.DEVNULL} | options
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for each in family:
            each.terminate()
        process.wait(30)


def _wait_until_up(connection: http.client.HTTPConnection) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            connection.request("GET", "/ping")
            if connection.getresponse().read() is not None:
                return
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
