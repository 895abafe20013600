"""What the router adds to a request, and whether a request fails while weights move.

Latency is that of one caller on one kept connection, asking router and scorer in turns. Then
weights go 0 -> 5 -> 25 -> 50 -> 100 -> 0 under load of four callers, and last a split of 10 to 90
is counted. Nothing is sent anywhere but to 127.0.0.1.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from airflow_mlops_provider.serving.client import ServingClient
from benchmarks import Measure

WEIGHTS = (0, 5, 25, 50, 100, 0)
ADDED_MS = 1.0
SHARE = 10
SHARE_POINTS = 1.0
_CALLERS = 4
_BODY = json.dumps({"dataframe_split": {"columns": ["x", "y"], "data": [[0.5, 0.2]]}})
_HEADERS = {"content-type": "application/json"}
_START_SECONDS = 120


def run(quick: bool) -> list[Measure]:
    """Measure latency, failures and split of a router before two deployments."""
    n_latency = 400 if quick else 4_000
    n_moved = 6_000 if quick else 100_000
    n_split = 2_000 if quick else 10_000
    with tempfile.TemporaryDirectory(prefix="mlops-router-") as folder:
        models = _models(Path(folder))
        with _served(Path(folder), models) as client:
            routed, direct = _latencies(client, n_latency)
            failed, sent = _moved(client, n_moved)
            share = _split(client, n_split)
    # Of so few requests the luck of the draw alone is more than a point.
    allowed = 4 * (SHARE * (100 - SHARE) / n_split) ** 0.5 if quick else SHARE_POINTS
    good = abs(share - SHARE) <= allowed
    return [
        Measure(
            "router: p50 of a request",
            routed,
            direct,
            "ms",
            f"ours - theirs <= {ADDED_MS:g} ms",
            routed - direct <= ADDED_MS,
            n_latency,
        ),
        Measure("router: failed requests", failed, sent, "", "ours = 0", failed == 0, sent),
        Measure("router: share", share, SHARE, "%", f"off by <= {allowed:.2g}", good, n_split),
    ]


def _models(folder: Path) -> dict[str, str]:
    """Log two small classifiers, and return their URIs and that of their registry."""
    import mlflow
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    artifacts = str(folder / "artifacts")
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment("router", artifact_location=artifacts)
    )
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 2)), columns=["x", "y"])
    found = {"registry": uri}
    for name, strength in (("champion", 1.0), ("candidate", 0.1)):
        model = LogisticRegression(C=strength).fit(frame, frame["x"] > 0)
        found[name] = mlflow.sklearn.log_model(
            model,
            name=name,
            signature=infer_signature(frame, model.predict(frame)),
            pip_requirements=["scikit-learn"],
        ).model_uri
    return found


@contextmanager
def _served(folder: Path, models: dict[str, str]) -> Iterator[ServingClient]:
    """Run a serving host with both models on the endpoint ``e``."""
    workspace = folder / "workspace"
    command = [sys.executable, "-m", "airflow_mlops_provider.cli", "serve", "--port=0"]
    command += ["--admin-port=0", f"--workspace={workspace}", "--orphan-seconds=5"]
    command += [f"--tracking-uri={models['registry']}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as host:
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not (workspace / "serving" / "host.json").exists():
                if host.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("The serving host did not come up.")
                time.sleep(0.1)
            with ServingClient.from_workspace(str(workspace)) as client:
                client.create_endpoint("e")
                for name in ("champion", "candidate"):
                    client.create_deployment("e", name, models[name])
                yield client
        finally:
            host.terminate()


def _put(client: ServingClient, candidate: int) -> None:
    traffic = {"champion": 100 - candidate, "candidate": candidate}
    client.set_traffic("e", traffic, generation=client.get_state("e").generation)


def _latencies(client: ServingClient, n: int) -> tuple[float, float]:
    """Return the median latency through the router and to the scorer, in milliseconds."""
    _put(client, 0)
    url = urlsplit(client.get_state("e").url)
    (worker,) = client.status("e")["champion"]["workers"]
    routed = _caller(str(url.hostname), url.port, f"{url.path}/invocations")
    direct = _caller("127.0.0.1", worker["port"], "/invocations")
    with routed as ask_router, direct as ask_scorer:
        for ask in (ask_router, ask_scorer) * 50:
            ask()
        pairs = [(_milliseconds(ask_router), _milliseconds(ask_scorer)) for _ in range(n)]
    return median(first for first, _ in pairs), median(second for _, second in pairs)


def _moved(client: ServingClient, n: int) -> tuple[int, int]:
    """Send ``n`` requests while the weights move; return how many failed, and how many it were."""
    left = threading.Semaphore(n)
    seen: list[int] = []
    callers = [threading.Thread(target=_call, args=(client, left, seen)) for _ in range(_CALLERS)]
    _put(client, WEIGHTS[0])
    for caller in callers:
        caller.start()
    for step, weight in enumerate(WEIGHTS):
        while len(seen) < n * step // len(WEIGHTS):
            time.sleep(0.01)
        _put(client, weight)
    for caller in callers:
        caller.join()
    return sum(status != 200 for status in seen), len(seen)


def _call(client: ServingClient, left: threading.Semaphore, seen: list[int]) -> None:
    url = urlsplit(client.get_state("e").url)
    with _caller(str(url.hostname), url.port, f"{url.path}/invocations") as ask:
        while left.acquire(blocking=False):
            try:
                seen.append(ask()[0])
            except (OSError, http.client.HTTPException):
                seen.append(0)


def _split(client: ServingClient, n: int) -> float:
    """Return the percentage of ``n`` requests that the candidate answered."""
    _put(client, SHARE)
    url = urlsplit(client.get_state("e").url)
    with _caller(str(url.hostname), url.port, f"{url.path}/invocations") as ask:
        found = Counter(ask()[1] for _ in range(n))
    return 100 * found["candidate"] / found.total()


@contextmanager
def _caller(host: str, port: Any, path: str) -> Iterator[Callable[[], tuple[int, str]]]:
    """Give a function that asks on a kept connection, and returns status and deployment."""
    with closing(http.client.HTTPConnection(host, port, timeout=40)) as connection:

        def ask() -> tuple[int, str]:
            connection.request("POST", path, _BODY, _HEADERS)
            answer = connection.getresponse()
            answer.read()
            return answer.status, str(answer.getheader("x-deployment"))

        yield ask


def _milliseconds(ask: Callable[[], Any]) -> float:
    start = time.perf_counter()
    ask()
    return (time.perf_counter() - start) * 1000
