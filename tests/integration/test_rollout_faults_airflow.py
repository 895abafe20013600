"""Canaries whose worker, triggerer or scheduler is killed, under a real Airflow.

``airflow standalone`` does not start again what ends, so a part that was killed is started anew
beside it, as a supervisor would.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import mlflow
import psutil
import pytest

from airflow_mlops_provider.serving.client import ServingClient
from airflow_mlops_provider.stack.local import USER, LocalStack, base_env
from airflow_mlops_provider.stack.service import Service, stop_all
from tests.serving_fake import version
from tests.serving_hosts import load, log_classifier, put, until

pytestmark = pytest.mark.slow  # minutes

ENDPOINTS = ("stepping", "baking")
DAGS = """
from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_mlops_provider.operators import CanaryRolloutOperator

for dag_id, deferrable in (("deferred", True), ("working", False)):
    with DAG(
        dag_id,
        schedule=None,
        params={name: Param(None) for name in ("endpoint", "candidate", "bake", "lease")},
        render_template_as_native_obj=True,
    ):
        CanaryRolloutOperator(
            task_id="canary",
            endpoint="{{ params.endpoint }}",
            candidate="{{ params.candidate }}",
            steps=[50, 100],
            step_min_seconds=1,
            bake_seconds="{{ params.bake }}",
            lease_seconds="{{ params.lease }}",
            min_requests=20,
            interval_seconds=0.5,
            dry_run_metrics=["latency"],
            deferrable=deferrable,
            retries=1,
            retry_delay=timedelta(0),
        )
"""


class ImpatientStack(LocalStack):
    """Airflow notices within seconds that a worker or the triggerer is gone."""

    def airflow_env(self) -> dict[str, str]:
        return {
            **super().airflow_env(),
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "12",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # on a busy machine
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "12",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
        }


class World:
    """Airflow, whose parts can be killed, and endpoints on which v1 and v2 are one model."""

    def __init__(self, stack: LocalStack, model_uri: str) -> None:
        self.stack = stack
        self.model_uri = model_uri
        self.airflow = stack.client()
        self.serving = ServingClient.from_workspace(str(stack.workspace))
        self._again: list[Service] = []
        login = {"username": USER, "password": stack.password}
        token = httpx.post(f"{stack.airflow_url}/auth/token", json=login).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=f"{stack.airflow_url}/api/v2", headers=headers)

    def reset(self) -> None:
        for endpoint in ENDPOINTS:
            self.serving.create_endpoint(endpoint)
            self.serving.clear_rollout(endpoint)
            for name in ("v1", "v2"):
                self.serving.create_deployment(endpoint, name, self.model_uri)
            put(self.serving, endpoint, {"v1": 100})

    def start(self, dag_id: str, endpoint: str, bake: float = 1, lease: float = 180) -> str:
        candidate = {**version("2").to_xcom(), "model_uri": self.model_uri}
        conf = {"endpoint": endpoint, "candidate": candidate, "bake": bake, "lease": lease}
        return self.airflow.trigger(dag_id, conf)

    def held(self, dag_id: str) -> dict[str, str]:
        """Start two canaries that stay where they are: in STEP without traffic, and baking."""
        runs = {
            endpoint: self.start(dag_id, endpoint, bake)
            for endpoint, bake in (("stepping", 1), ("baking", 20))
        }
        with load(self.url("baking")) as seen:
            until(lambda: self.state("baking") == "BAKING", 240)
        assert {status for status, _ in seen} == {200}
        until(lambda: self.state("stepping") == "STEP", 120)
        return runs

    def finish(self, dag_id: str, runs: dict[str, str]) -> None:
        """Give the canary in STEP its traffic, and wait for both to succeed."""
        with load(self.url("stepping")) as seen:
            ends = {name: self.airflow.wait(dag_id, run, 240) for name, run in runs.items()}
        assert ends == dict.fromkeys(runs, "success")
        assert {status for status, _ in seen} == {200}
        for endpoint, run in runs.items():
            verdict = self.airflow.xcom(dag_id, run, "canary")
            steps = [(step["state"], step["weight"]) for step in verdict["steps"]]
            assert (verdict["state"], steps) == ("SUCCEEDED", [("STEP", 50), ("BAKING", 100)])
            asked = verdict["steps"][0]
            assert min(asked["champion_requests"], asked["candidate_requests"]) >= 20
            assert self.serving.get_state(endpoint).traffic == {"v2": 100}

    def url(self, endpoint: str) -> str:
        return self.serving.get_state(endpoint).url

    def state(self, endpoint: str) -> str | None:
        document = self.serving.get_rollout(endpoint)
        return document and document["state"]

    def task(self, dag_id: str, run: str) -> dict[str, Any]:
        answer = self._http.get(f"/dags/{dag_id}/dagRuns/{run}/taskInstances/canary")
        return dict(answer.json())

    def kill_worker(self, dag_id: str, run: str) -> None:
        task = psutil.Process(self.task(dag_id, run)["pid"])
        for process in (task.parent(), task):
            process.kill()

    def kill(self, part: str) -> None:
        found = next(each for each in self._processes() if _command(each).endswith(part))
        for process in (found, *found.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def start_again(self, part: str) -> None:
        health = f"{self.stack.airflow_url}/api/v2/monitor/health"
        command = [*self.stack.services[-1].command[:-1], part]
        env = {**base_env(), **self.stack.airflow_env()}
        log = self.stack.logs / f"{part}-{len(self._again)}.log"
        self._again.append(Service(part, command, env, log, health))
        self._again[-1].start()

    def close(self) -> None:
        stop_all(self._again)

    def _processes(self) -> Iterator[psutil.Process]:
        """Return what Airflow's keepers run, and of `standalone` the parts."""
        for service in (self.stack.services[-1], *self._again):
            if service.running:
                for process in psutil.Process(service._process.pid).children():
                    yield process
                    yield from process.children()


def _command(process: psutil.Process) -> str:
    with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    dags = tmp_path_factory.mktemp("dags")
    (dags / "rollouts.py").write_text(DAGS)
    with ImpatientStack(tmp_path_factory.mktemp("home"), dags) as stack:
        mlflow.set_tracking_uri(stack.mlflow_url)
        mlflow.set_registry_uri(stack.mlflow_url)
        mlflow.set_experiment("rollouts")
        started = World(stack, log_classifier("good"))
        for dag_id in ("deferred", "working"):
            started.airflow.wait_for_dag(dag_id)
        yield started
        started.close()


@pytest.fixture
def world(running):
    running.reset()
    return running


@pytest.mark.parametrize("part", ["triggerer", "scheduler"])
def test_deferred_canaries_go_on_after_a_part_of_airflow_was_killed(world, part):
    runs = world.held("deferred")
    world.kill(part)
    time.sleep(3)  # as long as a supervisor may take
    world.start_again(part)
    world.finish("deferred", runs)


def test_canaries_go_on_after_their_workers_were_killed(world):
    runs = world.held("working")
    for run in runs.values():
        world.kill_worker("working", run)
    world.finish("working", runs)
    assert {world.task("working", run)["try_number"] for run in runs.values()} == {2}


def test_a_worker_that_is_killed_while_the_candidate_loads_is_followed_by_another(world):
    world.serving.delete_deployment("stepping", "v2")
    run = world.start("deferred", "stepping")
    until(lambda: world.state("stepping") == "PENDING", 120)
    world.kill_worker("deferred", run)
    world.finish("deferred", {"stepping": run})
    assert world.task("deferred", run)["try_number"] == 2


def test_canaries_whose_triggerer_stays_away_are_rolled_back_by_the_host(world):
    run = world.start("deferred", "stepping", lease=15)
    until(lambda: world.state("stepping") == "STEP", 120)
    until(lambda: world.task("deferred", run)["state"] == "deferred", 120)
    world.kill("triggerer")
    with load(world.url("stepping")) as seen:
        until(lambda: world.state("stepping") == "ROLLED_BACK", 120)
    assert {status for status, _ in seen} == {200}
    assert world.serving.get_state("stepping").traffic == {"v1": 100}
    world.start_again("triggerer")
    assert world.airflow.wait("deferred", run, 180) == "failed"
    verdict = world.airflow.xcom("deferred", run, "canary")
    assert (verdict["state"], verdict["reason"][:13]) == ("ROLLED_BACK", "lease expired")
