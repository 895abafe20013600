"""An A/B test on the real serving host: real assignment, real log, looks in a worker."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from unittest.mock import MagicMock

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from airflow.api_fastapi.core_api.security import get_user
from airflow.sdk.exceptions import TaskDeferred
from fastapi.testclient import TestClient
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from airflow_mlops_provider.operators import base
from airflow_mlops_provider.operators.ab_test import ABTestOperator
from airflow_mlops_provider.records import ModelVersionRef
from airflow_mlops_provider.serving.client import ServingClient
from airflow_mlops_provider.ui import services

pytestmark = pytest.mark.slow  # half a minute of real processes

ROW = {"dataframe_split": {"columns": ["x"], "data": [[0.5]]}}
DEADLINE_SECONDS = 120


class Users:
    """People who each ask twice, and of whom those on v2 buy more."""

    def __init__(self, url: str) -> None:
        self.url, self.ended, self.names = url, threading.Event(), itertools.count()
        self.met: dict[str, set[str]] = defaultdict(set)
        self.statuses: set[int] = set()
        self.bought: list[tuple[str, float, float]] = []

    def __enter__(self):
        self.threads = [threading.Thread(target=self._ask) for _ in range(2)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def outcomes(self, start, end):
        rows = pd.DataFrame(list(self.bought), columns=["entity_id", "ts", "value"])
        return rows.assign(ts=pd.to_datetime(rows["ts"], unit="s", utc=True))

    def _ask(self):
        rng = np.random.default_rng(1)
        with httpx.Client(timeout=20) as client:
            while not self.ended.wait(0.05):
                name = f"user-{next(self.names)}"
                for _ in range(2):
                    headers = {"x-entity-id": name}
                    answer = client.post(f"{self.url}/invocations", json=ROW, headers=headers)
                    self.statuses.add(answer.status_code)
                    side = answer.headers["x-deployment"]
                    self.met[name].add(side)
                value = rng.normal(5.0 if side == "v2" else 3.0)
                self.bought.append((name, time.time(), value))


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A serving host in a process of its own, and the URI of a model."""
    root = tmp_path_factory.mktemp("ab")
    uri = f"sqlite:///{root}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    made = mlflow.create_experiment("ab", artifact_location=str(root / "artifacts"))
    mlflow.set_experiment(experiment_id=made)
    frame = pd.DataFrame({"x": [-1.0, 1.0]})
    fitted = LogisticRegression().fit(frame, [0, 1])
    model = mlflow.sklearn.log_model(
        fitted,
        name="m",
        signature=infer_signature(frame, fitted.predict(frame)),
        pip_requirements=["scikit-learn"],
    )
    workspace = root / "workspace"
    command = [sys.executable, "-m", "airflow_mlops_provider.cli", "serve", "--tracking-uri", uri]
    command += ["--workspace", str(workspace), "--port", "0", "--admin-port", "0"]
    process = subprocess.Popen(command)
    published = workspace / "serving" / "host.json"
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not published.exists() or json.loads(published.read_text())["pid"] != process.pid:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    yield str(workspace), model.model_uri
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.fixture
def airflow_of(host, monkeypatch):
    """Airflow whose workspace is the host's, without its database or MLflow."""
    workspace, _ = host
    monkeypatch.setenv("AIRFLOW__MLOPS__WORKSPACE", f"file://{workspace}")

    @contextmanager
    def tracked_run(operator, context):
        with base.failing_for_good():
            yield MagicMock()

    monkeypatch.setattr(base.MlopsOperator, "tracked_run", tracked_run)


def finish(operator, context):
    """Run a deferrable operator as worker and triggerer do; gives its record and its look-ups."""
    resumed, method, arguments = 0, "execute", (context,)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        assert time.monotonic() < deadline
        try:
            return getattr(operator, method)(*arguments), resumed
        except TaskDeferred as deferred:
            event = asyncio.run(anext(deferred.trigger.run())).payload
            resumed, method, arguments = resumed + 1, deferred.method_name, (context, event)


def test_people_stay_on_their_side_and_what_they_buy_decides(host, airflow_of):
    workspace, model_uri = host
    with ServingClient.from_workspace(workspace) as client:
        client.create_endpoint("shop")
        ref = client.create_deployment("shop", "v1", model_uri)
        client.set_traffic("shop", {"v1": 100}, generation=ref.generation)
        with Users(ref.url) as users:
            version = ModelVersionRef(
                name="m", version="2", model_uri=model_uri, model_id=None, run_id=None, aliases=[]
            )
            operator = ABTestOperator(
                task_id="ab",
                endpoint="shop",
                candidate=version.to_xcom(),
                outcomes=users.outcomes,
                min_effect=0.5,
                min_units=30,
                look_seconds=2,
                label_delay_seconds=1,
                interval_seconds=0.5,
                bake_seconds=1,
                latency_slack_ms=10_000,
                deferrable=True,
            )
            context = {"ti": MagicMock()}
            record, resumed = finish(operator, context)
            traffic = client.get_state("shop").traffic
        document = client.get_rollout("shop")
    assert (record["state"], record["finding"]) == ("SUCCEEDED", "better")
    assert traffic == {"v2": 100}
    assert resumed >= 2  # at least one look, and the end
    assert users.statuses == {200}
    figures = record["figures"]
    assert figures["crossovers"] == 0
    assert figures["without_key"] == 0
    assert 1 < figures["low"] < figures["difference"] < figures["high"] < 3
    assert figures["mismatch_e_value"] < 200
    context["ti"].xcom_push.assert_any_call(key="rollout_url", value="/mlops/rollouts/shop")
    assert document["history"][-1]["state"] == "SUCCEEDED"
    services.app.dependency_overrides[get_user] = lambda: "somebody"
    page = TestClient(services.app).get("/rollouts/shop")
    services.app.dependency_overrides.clear()
    assert page.status_code == 200
    assert "v2 is better" in page.text
    assert page.text.count("<svg") >= 4
