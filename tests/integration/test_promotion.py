"""Promotion under a real scheduler, triggerer and API, whose questions are answered over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.linear_model import LogisticRegression

from airflow_mlops_provider.stack.local import USER, LocalStack, base_env
from airflow_mlops_provider.stack.service import Service, stop_all, wait_until_healthy
from airflow_mlops_provider.steps.register import find_version, register_model
from airflow_mlops_provider.steps.snapshot import write_dataset
from airflow_mlops_provider.steps.track import TaskRun
from tests.training import evaluate, train

DAGS = Path(__file__).resolve().parents[1] / "promotion_dags"
DAG_IDS = ("approval", "approval_in_time", "approval_or_default", "woken", "waiting")
ANSWER = "mlops.approval."
SETTLE_SECONDS = 6
"""After which the scheduler knows that the process that put a question has ended.

Airflow 3.3.2 takes a task that is answered sooner for one whose process died.
"""


class AttentiveStack(LocalStack):
    """Airflow notices within seconds that nobody answers, or that the triggerer is gone."""

    def airflow_env(self) -> dict[str, str]:
        return {
            **super().airflow_env(),
            "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
        }


class Airflow:
    """Airflow's API, and its triggerer, which can be stopped and started again."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.client = stack.client()
        login = {"username": USER, "password": stack.password}
        token = httpx.post(f"{stack.airflow_url}/auth/token", json=login).json()["access_token"]
        self._http = httpx.Client(
            base_url=f"{stack.airflow_url}/api/v2",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )
        self._triggerer = Service(
            "The triggerer",
            [*stack.services[-1].command[:-1], "triggerer"],
            {**base_env(), **stack.airflow_env()},
            stack.logs / "triggerer.log",
            f"{stack.airflow_url}/api/v2/monitor/health",
        )

    def question(self, dag_id: str, run: str) -> dict[str, Any]:
        """Wait until the question is put and can be answered, and return it."""
        until(lambda: self.client.task_states(dag_id, run).get("approve") == "awaiting_input")
        time.sleep(SETTLE_SECONDS)
        return self._call("GET", _question(dag_id, run))

    def answer(self, dag_id: str, run: str, option: str, reason: str) -> None:
        body = {"chosen_options": [option], "params_input": {"reason": reason}}
        self._call("PATCH", _question(dag_id, run), json=body)

    def states(self, dag_id: str, run: str) -> dict[str, str]:
        """Wait until the run has ended, and return the states of its tasks."""
        self.client.wait(dag_id, run, 180)
        return self.client.task_states(dag_id, run)

    def tries(self, dag_id: str, run: str, task_id: str) -> int:
        path = f"/dags/{dag_id}/dagRuns/{run}/taskInstances/{task_id}"
        return int(self._call("GET", path)["try_number"])

    def remembered(self, uri: str) -> Any:
        """Return what a trigger keeps with an asset."""
        (asset,) = self._call("GET", "/assets", params={"uri_pattern": uri})["assets"]
        kept = self._call("GET", f"/assets/{asset['id']}/state-store")["asset_state_store"]
        return {each["key"]: each["value"] for each in kept}

    def told(self) -> list[tuple[str, str | None, str | None]]:
        """Return what runs of the woken DAG saw, in order."""
        runs = self.client.runs("woken")
        payloads = [each for run in runs for each in (self.client.xcom("woken", run, "told") or [])]
        return [(each["event"], each["version"], each["alias"]) for each in payloads]

    def kill_triggerer(self) -> None:
        (triggerer,) = (
            process
            for process in self._airflow().children()
            if _command(process).endswith("triggerer")
        )
        for process in (triggerer, *triggerer.children(recursive=True)):
            process.kill()

    def start_triggerer(self) -> None:
        self._triggerer.start()
        wait_until_healthy([self._triggerer], 60, lambda line: None)

    def close(self) -> None:
        stop_all([self._triggerer])

    def _airflow(self) -> psutil.Process:
        keeper = psutil.Process(self.stack.services[-1]._process.pid)
        (airflow,) = keeper.children()
        return airflow

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self._http.request(method, path, **options)
        assert answer.is_success, answer.text
        return dict(answer.json())


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.ZombieProcess, psutil.NoSuchProcess):
        return ""


def _question(dag_id: str, run: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"


def until(true: Callable[[], Any], seconds: float = 180) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def airflow(tmp_path_factory) -> Iterator[Airflow]:
    with AttentiveStack(tmp_path_factory.mktemp("promotion"), DAGS) as stack:
        started = Airflow(stack)
        for dag_id in DAG_IDS:
            started.client.wait_for_dag(dag_id)
        yield started
        started.close()


@pytest.fixture(scope="module")
def client(airflow):
    url = airflow.stack.mlflow_url
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    return mlflow.MlflowClient(url, url)


@pytest.fixture(scope="module")
def judged(airflow, client):
    """A model that guesses and one that knows, each with its evaluation on the same rows."""
    workspace = str(airflow.stack.workspace)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"hour": rng.normal(size=2_000), "noise": rng.normal(size=2_000)})
    frame["late"] = (frame["hour"] + rng.normal(size=2_000) > 0).astype(float)
    dataset = write_dataset(frame, "flights", workspace, "test")
    experiment = client.create_experiment("judged")

    def made(feature):
        run = TaskRun(client, client.create_run(experiment).info.run_id, experiment)
        model = train(dataset, LogisticRegression, run=run, features=[feature], target="late")
        return model, evaluate(model.model_uri, dataset, run=run, workspace=workspace)

    return made("noise"), made("hour")


RUNS = {
    "approved": "approval",
    "rejected": "approval",
    "refused": "approval",
    "ignored": "approval_in_time",
    "defaulted": "approval_or_default",
}


@dataclass
class Promotion:
    """A run that is to promote version 2 of a model in the place of version 1."""

    airflow: Airflow
    client: mlflow.MlflowClient
    name: str
    dag_id: str
    run: str

    def states(self) -> dict[str, str]:
        return self.airflow.states(self.dag_id, self.run)

    def champion(self) -> str:
        return find_version(self.client, self.name, "champion").version

    def said(self) -> dict[str, str]:
        tags = self.client.get_model_version(self.name, "2").tags
        found = {key.removeprefix(ANSWER): value for key, value in tags.items() if ANSWER in key}
        return found and {key: found[key] for key in ("answer", "by", "reason")}


@pytest.fixture(scope="module")
def promotions(airflow, client, judged) -> dict[str, Promotion]:
    """All runs, started together, so that they wait together."""
    (old, old_report), (new, new_report) = judged
    started = {}
    for name, dag_id in RUNS.items():
        champion = register_model(client, old, name=name)
        version = register_model(client, new, name=name)
        reports = [new_report, old_report]
        if name == "refused":
            reports.reverse()
        records = [*reports, version, champion]
        keys = ("challenger", "champion", "version", "expected")
        conf = {key: each.to_xcom() for key, each in zip(keys, records, strict=True)}
        run = airflow.client.trigger(dag_id, conf)
        started[name] = Promotion(airflow, client, name, dag_id, run)
    return started


def test_an_approval_over_the_api_promotes_and_stays_with_the_version(airflow, promotions):
    promotion = promotions["approved"]
    question = airflow.question("approval", promotion.run)
    assert question["options"] == ["Approve", "Reject"]
    assert "The gate says **promote**" in question["body"]
    assert "| ✓ | superiority:auc | challenger gains +0." in question["body"]
    assert promotion.champion() == "1"
    airflow.answer("approval", promotion.run, "Approve", "it knows")
    assert set(promotion.states().values()) == {"success"}
    assert promotion.champion() == "2"
    assert find_version(promotion.client, "approved", "previous").version == "1"
    assert promotion.said() == {"answer": "Approve", "by": USER, "reason": "it knows"}
    at = promotion.client.get_model_version("approved", "2").tags[f"{ANSWER}at"]
    assert pd.Timestamp(at).tzinfo is not None


def test_a_rejection_over_the_api_promotes_nobody_and_keeps_why(airflow, promotions):
    promotion = promotions["rejected"]
    airflow.question("approval", promotion.run)
    airflow.answer("approval", promotion.run, "Reject", "too slow")
    assert promotion.states() == {"gate": "success", "approve": "success", "promote": "skipped"}
    assert promotion.champion() == "1"
    assert promotion.said() == {"answer": "Reject", "by": USER, "reason": "too slow"}


def test_no_answer_in_time_fails_for_good_and_is_kept(airflow, promotions):
    promotion = promotions["ignored"]
    states = {"gate": "success", "approve": "failed", "promote": "upstream_failed"}
    assert promotion.states() == states
    assert airflow.tries("approval_in_time", promotion.run, "approve") == 1
    assert promotion.champion() == "1"
    assert promotion.said() == {
        "answer": "timed out",
        "by": "nobody",
        "reason": "The Human-in-the-loop response timeout has passed without a response.",
    }


def test_a_default_that_nobody_gave_is_kept_as_that(promotions):
    promotion = promotions["defaulted"]
    assert set(promotion.states().values()) == {"success"}
    assert promotion.champion() == "2"
    assert promotion.said() == {
        "answer": "Approve",
        "by": "nobody",
        "reason": "nobody answered in time, so the default was taken",
    }


def test_a_gate_that_refuses_asks_nobody(promotions):
    promotion = promotions["refused"]
    states = {"gate": "failed", "approve": "upstream_failed", "promote": "upstream_failed"}
    assert promotion.states() == states
    assert promotion.said() == {}


def test_a_deferred_sensor_waits_in_the_triggerer_and_resumes(airflow, client, judged):
    run = airflow.client.trigger("waiting")
    until(lambda: airflow.client.task_states("waiting", run).get("wait") == "deferred")
    register_model(client, judged[0][0], name="awaited")
    assert airflow.states("waiting", run) == {"wait": "success"}
    assert airflow.client.xcom("waiting", run, "wait")["aliases"] == ["champion"]


def test_changes_by_hand_wake_a_dag_once_also_across_a_restart_of_the_triggerer(
    airflow, client, judged
):
    until(lambda: airflow.remembered("watched"))
    client.create_registered_model("watched")
    for model, _ in judged:
        client.create_model_version("watched", model.model_uri, model_id=model.model_id)
    told = [("version_created", "1", None), ("version_created", "2", None)]
    until(lambda: airflow.told() == told)
    client.set_registered_model_alias("watched", "champion", "1")
    told += [("alias_set", "1", "champion")]
    until(lambda: airflow.told() == told)
    kept = {"mlops_registry": {"newest": 2, "aliases": {"champion": "1"}}}
    until(lambda: airflow.remembered("watched") == kept)
    airflow.kill_triggerer()
    client.set_registered_model_alias("watched", "champion", "2")
    airflow.start_triggerer()
    told += [("alias_set", "2", "champion")]
    until(lambda: airflow.told() == told)
