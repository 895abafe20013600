"""Rollouts against the real host: Envoy, scorers of real models, and live traffic."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import cloudpickle
import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from airflow_mlops_provider.serving.client import ServingClient
from airflow_mlops_provider.steps.rollout.drive import Driver, begin
from airflow_mlops_provider.steps.rollout.plan import BlueGreenPlan, CanaryPlan, ShadowPlan

FAST = {"interval_seconds": 0.5, "lease_seconds": 60}
ROWS = [{"dataframe_split": {"columns": ["x", "y"], "data": [[x, 0.2]]}} for x in (-2.0, 0.5, 2.0)]


class Failing(mlflow.pyfunc.PythonModel):
    """Fails on a third of the requests."""

    def predict(self, context, model_input, params=None):
        if model_input["x"].iloc[0] > 1:
            raise ArithmeticError("too large")
        return np.full((len(model_input), 2), 0.5)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{root}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment("rollouts", artifact_location=str(root / "a"))
    )
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 2)), columns=["x", "y"])
    labels = (frame["x"] > 0).astype(int)
    model = LogisticRegression().fit(frame, labels)
    signature = infer_signature(frame, model.predict_proba(frame))
    shared = {"signature": signature, "pip_requirements": ["scikit-learn"]}
    good = mlflow.sklearn.log_model(model, name="good", pyfunc_predict_fn="predict_proba", **shared)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the scorer has no tests
    failing = mlflow.pyfunc.log_model(name="failing", python_model=Failing(), **shared)
    return {"tracking_uri": uri, "good": good.model_uri, "failing": failing.model_uri}


@pytest.fixture(scope="module")
def client(models, tmp_path_factory):
    workspace = tmp_path_factory.mktemp("workspace")
    command = [sys.executable, "-m", "airflow_mlops_provider.cli", "serve", "--port=0"]
    command += ["--admin-port=0", f"--workspace={workspace}"]
    command += [f"--tracking-uri={models['tracking_uri']}"]
    process = subprocess.Popen(command)
    try:
        until(lambda: published_by(workspace, process.pid), 90)
        with ServingClient.from_workspace(str(workspace)) as found:
            yield found
    finally:
        process.terminate()
        process.wait(30)


def published_by(workspace: Path, pid: int) -> bool:
    path = workspace / "serving" / "host.json"
    return path.exists() and json.loads(path.read_text())["pid"] == pid


def until(holds, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def deployments(client, models):
    """One endpoint for all tests, since loading a model takes longer than a short rollout."""
    client.create_endpoint("e")
    for name, model in (("v1", "good"), ("v2", "good"), ("v3", "failing")):
        client.create_deployment("e", name, models[model])


@pytest.fixture
def endpoint(client, deployments):
    """An endpoint on which v1 serves everything; v2 is the same model, v3 fails at times."""
    client.clear_rollout("e")
    generation = client.get_state("e").generation
    client.set_traffic("e", {"v1": 100}, generation=generation, mirror_traffic={})
    return "e"


@contextmanager
def traffic(client, endpoint, rate: float = 60, threads: int = 2):
    """Send requests at a bounded rate; gives the list of the status codes."""
    url = f"{client.get_state(endpoint).url}/invocations"
    seen: list[int] = []
    ended = threading.Event()

    def run() -> None:
        with httpx.Client(timeout=40) as http:
            for number in count():
                if ended.wait(threads / rate):
                    return
                seen.append(http.post(url, json=ROWS[number % len(ROWS)]).status_code)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield seen
    finally:
        ended.set()
        for worker in workers:
            worker.join()


def drive(client, endpoint, plan, seconds: float = 90):
    """Drive a rollout to its end; return its last state."""
    begin(client, endpoint, plan, time.time())
    driver, deadline = Driver(client, endpoint, plan), time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = driver.tick(time.time())
        if state and state.ended:
            return state
        time.sleep(plan.interval_seconds)
    raise AssertionError(f"no end: {state}")


def shadow(candidate, model_uri, **knobs):
    defaults = {"min_pairs": 100, "min_seconds": 2, "max_seconds": 60}
    return ShadowPlan.of(candidate=candidate, model_uri=model_uri, **FAST | defaults | knobs)


def blue_green(candidate, model_uri, **knobs):
    defaults = {"min_requests": 60, "bake_seconds": 2, "bake_max_seconds": 60}
    return BlueGreenPlan.of(candidate=candidate, model_uri=model_uri, **FAST | defaults | knobs)


def test_shadow_finds_the_same_model_to_agree_and_leaves_no_mirror(client, models, endpoint):
    with traffic(client, endpoint) as seen:
        state = drive(client, endpoint, shadow("v2", models["good"], dry_run_metrics=["latency"]))
    assert (state.state, state.reason) == ("SUCCEEDED", "it agrees with the champion")
    (step,) = state.steps
    assert (step["disagreements"], step["shadow_failed"]) == (0, 0)
    assert step["pairs"] >= 100
    ref = client.get_state(endpoint)
    assert (ref.traffic, ref.mirror_traffic) == ({"v1": 100}, {})
    assert set(seen) == {200}


def test_shadow_rolls_a_failing_candidate_back_and_no_user_notices(client, models, endpoint):
    with traffic(client, endpoint) as seen:
        state = drive(
            client, endpoint, shadow("v3", models["failing"], dry_run_metrics=["latency"])
        )
    assert state.state == "ROLLED_BACK"
    assert client.get_state(endpoint).mirror_traffic == {}
    assert set(seen) == {200}


def test_blue_green_switches_at_once_and_keeps_the_old_colour(client, models, endpoint):
    with traffic(client, endpoint) as seen:
        state = drive(client, endpoint, blue_green("v2", models["good"]))
    assert state.state == "SUCCEEDED"
    ref = client.get_state(endpoint)
    assert ref.traffic == {"v2": 100}
    assert "v1" in ref.deployments
    assert set(seen) == {200}


def test_blue_green_goes_back_at_once_when_the_new_colour_fails(client, models, endpoint):
    with traffic(client, endpoint):
        state = drive(client, endpoint, blue_green("v3", models["failing"]))
    assert state.state == "ROLLED_BACK"
    assert client.get_state(endpoint).traffic == {"v1": 100}


@pytest.mark.slow
def test_two_deployments_of_one_model_are_seldom_told_apart(client, models, endpoint):
    """50 short canaries with the shipped knobs of judgement; 6 of 50 is beyond a rate of 5 %."""
    ends = []
    with traffic(client, endpoint, rate=80) as seen:
        for number in range(50):
            plan = CanaryPlan.of(
                candidate=("v2", "v1")[number % 2],
                model_uri=models["good"],
                steps=(5, 25, 50, 100),
                step_min_seconds=3,
                step_max_seconds=60,
                min_requests=30,
                bake_seconds=1,
                **FAST,
            )
            state = drive(client, endpoint, plan)
            ends.append((state.state, state.reason, state.evidence.latency.difference))
            if state.state != "SUCCEEDED":
                client.clear_rollout(endpoint)
                ref = client.get_state(endpoint)
                client.set_traffic(endpoint, {plan.candidate: 100}, generation=ref.generation)
    assert set(seen) == {200}
    rolled_back = [end for end in ends if end[0] == "ROLLED_BACK"]
    assert len(rolled_back) <= 6, rolled_back
