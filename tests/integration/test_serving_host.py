"""The serving host with real Envoy, real scorers and real models from a real MLflow store."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import (
    ModelError,
    ParameterError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.serving.client import ServingClient
from airflow_mlops_provider.serving.prediction_log import read_segments
from tests.serving_hosts import (
    ROW,
    Host,
    alive,
    load,
    log_classifier,
    log_function,
    put,
    registry,
    start,
    until,
)


class Broken(mlflow.pyfunc.PythonModel):
    """Raises on x > 1, and gives text where its signature promises numbers on x < 0."""

    def predict(self, context, model_input, params=None):
        x = model_input["x"].iloc[0]
        if x > 1:
            raise ArithmeticError("too large")
        return np.array(["text"] if x < 0 else [1.0])


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    return {
        "tracking_uri": registry(tmp_path_factory.mktemp("mlflow")),
        "v1": log_classifier("v1"),
        "v2": log_classifier("v2", 0.01),
        "broken": log_function("broken", Broken()),
    }


@pytest.fixture(scope="module")
def host(models, tmp_path_factory):
    running = Host(tmp_path_factory.mktemp("workspace"), models["tracking_uri"])
    yield running
    try:
        assert running.stop() == 0
        assert running.children() == []
    finally:
        running.close()


@pytest.fixture
def hosts(models):
    """Starts hosts, and kills those that a failed test left running."""
    started: list[Host] = []

    def begin(workspace: Path) -> Host:
        started.append(Host(workspace, models["tracking_uri"]))
        return started[-1]

    yield begin
    for each in started:
        each.close()


@pytest.fixture
def client(host) -> ServingClient:
    return host.client


@pytest.fixture
def endpoint(client, models, request):
    name = request.node.name.replace("[", "-").rstrip("]")[:60]
    client.create_endpoint(name)
    yield name
    client.delete_endpoint(name)


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


def test_killed_candidate_costs_no_user_a_request(host, client, models, endpoint):
    client.create_deployment(endpoint, "champion", models["v1"])
    ref = client.create_deployment(endpoint, "doomed", models["v2"])
    put(client, endpoint, {"champion": 50, "doomed": 50})
    before = host.scorer_pids()["doomed"]
    with load(ref.url, rate=40) as seen:
        time.sleep(1)
        counted = client.observe(endpoint)["doomed"]["requests"]
        os.kill(before, signal.SIGKILL)
        until(lambda: host.scorer_pids().get("doomed", before) != before, 60)
        until(lambda: client.observe(endpoint)["doomed"]["requests"] > counted + 20, 60)
    assert Counter(status for status, _ in seen) == {200: len(seen)}
    client.rotate_logs(endpoint)
    records = list(read_segments(host.workspace / "serving" / "logs" / endpoint))
    answered = [item for item in records if item["status"] == 200]
    assert len({item["request_id"] for item in answered}) == len(seen)
    assert {item["deployment"] for item in answered} == {"champion", "doomed"}


def test_scorer_predicts_with_one_thread(host, client, models, endpoint):
    client.create_deployment(endpoint, "single", models["v1"])
    environment = Path(f"/proc/{host.scorer_pids()['single']}/environ").read_text().split("\0")
    wanted = os.environ.get("OMP_NUM_THREADS", "1")
    assert f"OMP_NUM_THREADS={wanted}" in environment


def test_killed_router_comes_back_with_the_same_routes(host, client, models, endpoint):
    client.create_deployment(endpoint, "champion", models["v1"])
    client.create_deployment(endpoint, "candidate", models["v2"])
    before = put(client, endpoint, {"champion": 0, "candidate": 100})
    url = f"{before.url}/invocations"
    assert httpx.post(url, json=ROW).headers["x-deployment"] == "candidate"
    (killed,) = host.router_pids()
    os.kill(killed, signal.SIGKILL)
    until(lambda: set(host.router_pids()) - {killed}, 60)

    def answer() -> httpx.Response | None:
        try:
            return httpx.post(url, json=ROW)
        except httpx.TransportError:
            return None

    until(lambda: (found := answer()) is not None and found.status_code == 200, 60)
    assert {answer().headers["x-deployment"] for _ in range(10)} == {"candidate"}
    assert client.get_state(endpoint) == before
    put(client, endpoint, {"champion": 100})
    until(lambda: answer().headers["x-deployment"] == "champion")


def test_change_that_a_frozen_router_does_not_take_over_can_be_repeated(
    host, client, models, endpoint
):
    client.create_deployment(endpoint, "champion", models["v1"])
    client.create_deployment(endpoint, "candidate", models["v2"])
    before = put(client, endpoint, {"champion": 100})
    wanted = {"traffic": {"candidate": 100}, "generation": before.generation}
    (router,) = host.router_pids()
    os.kill(router, signal.SIGSTOP)
    try:
        with pytest.raises(ServingUnavailableError, match="Try again"):
            client.set_traffic(endpoint, **wanted)
        assert client.get_state(endpoint) == before
    finally:
        os.kill(router, signal.SIGCONT)
    assert client.set_traffic(endpoint, **wanted).traffic == {"candidate": 100}
    answer = httpx.post(f"{before.url}/invocations", json=ROW, timeout=30)
    assert answer.headers["x-deployment"] == "candidate"


def test_blame_is_laid_where_it_belongs_and_all_is_logged(host, client, models, endpoint):
    ref = client.create_deployment(endpoint, "broken", models["broken"])
    put(client, endpoint, {"broken": 100})

    def ask(number: int, payload: dict) -> httpx.Response:
        headers = {"x-request-id": f"r{number}", "x-entity-id": "e"}
        return httpx.post(f"{ref.url}/invocations", json=payload, headers=headers)

    payloads = (
        {"dataframe_records": [{"x": 0.5, "y": 1.0}]},
        {"dataframe_records": [{"x": 0.5}]},
        {"rows": []},
        {"dataframe_records": [{"x": 2.0, "y": 1.0}]},
        {"dataframe_records": [{"x": -1.0, "y": 1.0}]},
        {"dataframe_records": [{"x": 0.5, "y": 1.0}, {"x": 0.5, "y": 1.0}]},
    )
    answers = [ask(number, payload) for number, payload in enumerate(payloads)]
    assert [answer.status_code for answer in answers] == [200, 400, 400, 500, 500, 500]
    assert answers[0].json() == {"predictions": [1.0]}
    assert answers[0].headers["x-model-uri"] == models["broken"]
    assert answers[3].json() == {
        "error_code": "INTERNAL_ERROR",
        "message": "The model raised ArithmeticError: too large",
    }
    counts = client.observe(endpoint)["broken"]
    found = {name: counts[name] for name in ("requests", "errors", "client_errors")}
    assert found == {"requests": 6, "errors": 3, "client_errors": 2}
    assert counts["schema_violations"] == 2
    client.rotate_logs(endpoint)
    records = list(read_segments(host.workspace / "serving" / "logs" / endpoint))
    assert [(item["request_id"], item["row"], item["error_class"]) for item in records] == [
        ("r0", 0, None),
        ("r1", 0, "InvalidInput"),
        ("r2", 0, "InvalidInput"),
        ("r3", 0, "ArithmeticError"),
        ("r4", 0, "OutputSchemaViolation"),
        ("r5", 0, "OutputSchemaViolation"),
        ("r5", 1, "OutputSchemaViolation"),
    ]
    assert records[0]["inputs"] == {"x": 0.5, "y": 1.0}
    assert (records[0]["outputs"], records[0]["entity_id"], records[0]["attempt"]) == (1.0, "e", 1)
    with pytest.raises(ParameterError, match="exactly one of"):
        client.predict(endpoint, {})


def test_the_open_inference_protocol_goes_through_the_router(client, models, endpoint):
    ref = client.create_deployment(endpoint, "v1", models["v1"])
    put(client, endpoint, {"v1": 100})
    column = {"datatype": "FP64", "shape": [1, 1], "data": [0.5]}
    body = {"inputs": [{"name": name, **column} for name in ("x", "y")]}
    answer = httpx.post(f"{ref.url}/v2/models/{endpoint}/infer", json=body)
    asked = client.predict(endpoint, {"dataframe_records": [{"x": 0.5, "y": 0.5}]})
    assert answer.json()["outputs"][0]["data"] == asked["predictions"][0]
    assert httpx.get(f"{ref.url}/v2/health/ready").status_code == 200
    assert httpx.get(f"{ref.url}/v2/models/{endpoint}").json()["name"] == endpoint
    assert httpx.get(f"{ref.url}/v3").status_code == 404


def test_mirrored_requests_are_marked_as_shadow(host, client, models, endpoint):
    client.create_deployment(endpoint, "champion", models["v1"])
    client.create_deployment(endpoint, "shadow", models["v2"])
    put(client, endpoint, {"champion": 100}, mirror_traffic={"shadow": 100})
    for _ in range(5):
        client.predict(endpoint, ROW)
    until(lambda: client.observe(endpoint)["shadow"]["shadow_requests"] == 5)
    counts = client.observe(endpoint)
    assert (counts["shadow"]["requests"], counts["champion"]["requests"]) == (0, 5)
    client.rotate_logs(endpoint)
    records = list(read_segments(host.workspace / "serving" / "logs" / endpoint))
    by_side = {
        side: {item["request_id"] for item in records if item["shadow"] is side}
        for side in (True, False)
    }
    assert by_side[True] == by_side[False]
    assert len(by_side[True]) == 5
    with pytest.raises(ParameterError, match="still carries traffic"):
        client.delete_deployment(endpoint, "shadow")


def test_an_entity_stays_on_its_side_as_the_weight_rises(client, models, endpoint):
    client.create_deployment(endpoint, "champion", models["v1"])
    ref = client.create_deployment(endpoint, "candidate", models["v2"])

    def on_candidate() -> set[str]:
        found = set()
        for entity in map(str, range(40)):
            headers = {"x-entity-id": entity}
            answer = httpx.post(f"{ref.url}/invocations", json=ROW, headers=headers)
            if answer.headers["x-deployment"] == "candidate":
                found.add(entity)
        return found

    put(client, endpoint, {"champion": 70, "candidate": 30}, sticky=True)
    some = on_candidate()
    assert some == on_candidate()
    put(client, endpoint, {"champion": 30, "candidate": 70})
    assert set() < some < on_candidate()


def test_model_that_cannot_be_loaded_leaves_nothing(host, client, endpoint):
    with pytest.raises(ModelError, match=r"(?s)last log lines:.*no-such-model"):
        client.create_deployment(endpoint, "ghost", "models:/no-such-model/1")
    assert client.get_state(endpoint).deployments == {}
    assert "ghost" not in host.scorer_pids()


def test_repeating_a_call_changes_nothing_and_a_stale_one_is_refused(client, models, endpoint):
    client.create_deployment(endpoint, "v1", models["v1"])
    assert client.create_deployment(endpoint, "v1", models["v1"]) == client.get_state(endpoint)
    with pytest.raises(RegistryConflictError, match="already serves"):
        client.create_deployment(endpoint, "v1", models["v2"])
    put(client, endpoint, {"v1": 100})
    assert client.create_endpoint(endpoint).traffic == {"v1": 100}
    assert client.set_traffic(endpoint, {"v1": 100}, generation=0).generation == 1
    with pytest.raises(RegistryConflictError, match="generation 0"):
        client.set_traffic(endpoint, {}, generation=0)
    with pytest.raises(ParameterError, match="Move its traffic away"):
        client.delete_deployment(endpoint, "v1")
    put(client, endpoint, {})
    client.delete_deployment(endpoint, "v1")
    client.delete_deployment(endpoint, "v1")
    with pytest.raises(ParameterError, match=f"known: .*{endpoint}"):
        client.get_state("nobody")


def test_rollout_without_its_driver_is_rolled_back(client, models, endpoint):
    client.create_deployment(endpoint, "champion", models["v1"])
    client.create_deployment(endpoint, "candidate", models["v2"])
    put(client, endpoint, {"champion": 50, "candidate": 50})
    keep = {"lease_seconds": 1.0, "rollback_traffic": {"champion": 100}}
    client.put_rollout(endpoint, {"state": "STEP"}, **keep)
    until(lambda: client.get_rollout(endpoint)["state"] == "ROLLED_BACK")
    assert client.get_rollout(endpoint)["reason"].startswith("lease expired: ")
    assert client.get_state(endpoint).traffic == {"champion": 100}
    client.clear_rollout(endpoint)
    assert client.get_rollout(endpoint) is None


def test_admin_refuses_strangers(client):
    with pytest.raises(ServingUnavailableError, match="airflow-mlops serve"):
        ServingClient("http://127.0.0.1:1", "").capabilities()
    with pytest.raises(ParameterError, match="token"):
        ServingClient(client.admin_url, "wrong").capabilities()


def test_mlflow_target_sets_the_same_traffic(host, client, models, endpoint):
    from mlflow.deployments import get_deploy_client

    target = get_deploy_client(f"mlops-local:{host.workspace}")
    target.create_deployment("v1", models["v1"], endpoint=endpoint)
    assert target.update_endpoint(endpoint, {"traffic": {"v1": 100}})["generation"] == 1
    assert target.get_deployment("v1", endpoint)["traffic"] == 100
    frame = pd.DataFrame({"x": [0.5, -3.0], "y": [0.2, 0.1]})
    predictions = target.predict(inputs=frame, endpoint=endpoint)["predictions"]
    assert np.argmax(predictions, axis=1).tolist() == [1, 0]
    target.update_endpoint(endpoint, {"traffic": {}})
    target.delete_deployment("v1", endpoint=endpoint)


def test_host_comes_back_as_it_was_and_leaves_no_process_behind(models, tmp_path, hosts):
    first = hosts(tmp_path)
    first.client.create_endpoint("e")
    first.client.create_deployment("e", "v1", models["v1"])
    put(first.client, "e", {"v1": 100})
    first.client.predict("e", ROW)
    left = [pid for pid, _ in first.children()]
    assert len(left) == 3
    assert first.stop(signal.SIGINT) == 0
    assert not any(map(alive, left))

    second = hosts(tmp_path)
    assert second.client.get_state("e").traffic == {"v1": 100}
    assert len(list(read_segments(tmp_path / "serving" / "logs" / "e"))) == 1
    until(lambda: second.client.predict("e", ROW))
    assert second.client.observe("e")["v1"]["requests"] == 2
    left = [pid for pid, _ in second.children()]
    assert second.stop(signal.SIGTERM) == 0
    assert not any(map(alive, left))
    assert not (tmp_path / "serving" / "host.json").exists()
    assert (tmp_path / "serving" / "token").stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / "serving" / "state.json").read_text())["endpoints"]["e"]
    with pytest.raises(ServingUnavailableError, match="airflow-mlops serve --workspace"):
        ServingClient.from_workspace(str(tmp_path))


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_taken_port_is_named_and_nothing_starts(tmp_path, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(tmp_path, option, str(port))
        _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert error.count("\n") == 1
    assert f"127.0.0.1:{port}" in error
    assert not (tmp_path / "serving" / "host.json").exists()


def test_second_host_of_a_workspace_is_refused(host):
    command = [sys.executable, "-m", "airflow_mlops_provider.cli", "serve", "--port=0"]
    command += ["--admin-port=0", f"--workspace={host.workspace}"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 1
    assert "Another serving host" in process.stderr
