"""Faults of the serving host's parts, with the real processes under load.

What holds in each: users see no failure that the router could have avoided, and the counters say
whose failure it was.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import httpx
import mlflow
import numpy as np
import pytest

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.serving.client import ServingClient
from airflow_mlops_provider.serving.prediction_log import read_segments
from airflow_mlops_provider.stack.service import free_ports
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

HALF = {"champion": 50, "candidate": 50}


def row(x: float, y: float = 0.0) -> dict:
    return {"dataframe_split": {"columns": ["x", "y"], "data": [[x, y]]}}


RAISES, CRASHES, WRONG = row(2), row(100), row(-1)


class Moody(mlflow.pyfunc.PythonModel):
    """Fails as x says: text below 0, raises above 1, dies above 50. Takes y seconds above 1."""

    def predict(self, context, model_input, params=None):
        x, y = model_input["x"].iloc[0], model_input["y"].iloc[0]
        if x > 50:
            os._exit(3)
        if x > 1:
            raise ArithmeticError("too large")
        if y > 1:
            time.sleep(y)
        return np.array(["text"] if x < 0 else [1.0])


class Leaking(mlflow.pyfunc.PythonModel):
    """Holds 4 MB more with each request."""

    held: ClassVar[list] = []

    def predict(self, context, model_input, params=None):
        self.held.append(np.ones(1 << 19))
        return np.array([1.0])


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    return {
        "tracking_uri": registry(tmp_path_factory.mktemp("mlflow")),
        "champion": log_classifier("champion"),
        "moody": log_function("moody", Moody()),
        "leaking": log_function("leaking", Leaking()),
    }


@pytest.fixture(scope="module")
def hosts(models, tmp_path_factory):
    """The one host of this module, and those that come after it."""
    workspace = tmp_path_factory.mktemp("workspace")
    started: list[Host] = []

    def begin() -> Host:
        options = ("--hung-seconds", "3", "--orphan-seconds", "60")
        started.append(Host(workspace, models["tracking_uri"], *options))
        return started[-1]

    host = begin()
    host.client.create_endpoint("e")
    threads = [
        threading.Thread(target=host.client.create_deployment, args=("e", name, models[model]))
        for name, model in (("champion", "champion"), ("candidate", "moody"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield started, begin
    try:
        assert started[-1].stop() == 0
        assert started[-1].children() == []
    finally:
        started[-1].close()


@pytest.fixture
def host(hosts) -> Host:
    """The host that runs, all of its traffic on the champion and nothing shielded."""
    running = hosts[0][-1]
    until(lambda: set(running.client.get_state("e").deployments) == {"champion", "candidate"})
    until(lambda: healthy(running.client, "candidate"), 90)
    put(running.client, "e", {"champion": 100}, shield=False)
    return running


def healthy(client: ServingClient, name: str) -> bool:
    status = client.status("e")[name]
    return sum(each["healthy"] for each in status["workers"]) == status["wanted"]


def url_of(host: Host) -> str:
    return host.client.get_state("e").url


def counts(host: Host, name: str = "candidate") -> Counter:
    found = host.client.observe("e")[name]
    return Counter({key: value for key, value in found.items() if isinstance(value, int)})


def ask(host: Host, payload: dict, n: int = 1) -> Counter:
    with httpx.Client(timeout=40) as client:
        url = f"{url_of(host)}/invocations"
        return Counter(client.post(url, json=payload).status_code for _ in range(n))


def test_host_that_is_killed_takes_nobody_down(hosts, host):
    _, begin = hosts
    put(host.client, "e", HALF)
    before = {pid for pid, _ in host.children() if pid not in keepers(host)}
    counted = sum(counts(host, name)["requests"] for name in HALF)
    with load(url_of(host), rate=40) as seen:
        time.sleep(1)
        host.stop(signal.SIGKILL)
        alone = len(seen)
        until(lambda: len(seen) > alone + 20)
        second = begin()
        assert second.client.get_state("e").traffic == HALF
        put(second.client, "e", {"champion": 100})
        told = len(seen)
        until(lambda: len(seen) > told + 20)
    assert Counter(status for status, _ in seen) == {200: len(seen)}
    assert {name for _, name in seen[told + 4 :]} == {"champion"}
    assert before == {pid for pid, _ in second.children() if pid not in keepers(second)}
    assert len(keepers(second)) == 1
    assert sum(counts(second, name)["requests"] for name in HALF) == counted + len(seen)
    (victim,) = {each["pid"] for each in second.client.status("e")["candidate"]["workers"]}
    os.kill(victim, signal.SIGKILL)  # an adopted scorer is watched like any other
    until(lambda: second.client.status("e")["candidate"]["restarts"] == {"ended": 1}, 60)


def keepers(host: Host) -> set[int]:
    return {pid for pid, arguments in host.children() if arguments[2].endswith("keeper")}


def test_router_that_is_killed_comes_back_with_its_weights(host):
    put(host.client, "e", {"champion": 75, "candidate": 25})
    (router,) = host.router_pids()
    before = counts(host, "champion") + counts(host)
    with load(url_of(host), rate=60) as seen:
        time.sleep(0.5)
        os.kill(router, signal.SIGKILL)
        until(lambda: any(status == 0 for status, _ in seen))
        until(lambda: host.router_pids() not in ([], [router]))
        until(lambda: seen[-1][0] == 200)
        back = len(seen)
        until(lambda: len(seen) > back + 200, 60)
    assert {status for status, _ in seen} == {0, 200}  # refused while it was away, and no more
    after = Counter(name for status, name in seen[back:] if status == 200)
    assert 0.12 < after["candidate"] / after.total() < 0.4
    now = counts(host, "champion") + counts(host)
    answered = sum(status == 200 for status, _ in seen)
    assert now["requests"] - before["requests"] >= answered
    assert now["errors"] == before["errors"]


def test_candidate_that_crashes_on_an_input_costs_no_user_a_request(host):
    put(host.client, "e", HALF)
    before = counts(host)
    assert set(ask(host, CRASHES, 6)) == {200}
    until(lambda: counts(host)["errors"] > before["errors"])
    assert counts(host)["errors"] <= before["errors"] + 6
    until(lambda: healthy(host.client, "candidate"), 90)
    assert host.client.status("e")["candidate"]["restarts"]["ended"] >= 1


def test_candidate_that_hangs_is_replaced_and_costs_no_user_a_request(host):
    put(host.client, "e", HALF)
    (hung,) = {each["pid"] for each in host.client.status("e")["candidate"]["workers"]}
    with load(url_of(host), rate=20) as seen:
        until(lambda: len(seen) > 5)
        os.kill(hung, signal.SIGSTOP)
        until(lambda: not alive(hung), 30)
    assert Counter(status for status, _ in seen) == {200: len(seen)}
    until(lambda: host.client.status("e")["candidate"]["restarts"].get("hung") == 1, 60)


def test_slow_candidate_is_not_taken_for_a_hung_one(host):
    put(host.client, "e", {"candidate": 100})
    pids = host.scorer_pids()
    before = host.client.observe("e")["candidate"]["latency_ms_sum"]
    assert ask(host, row(0.5, 4)) == {200: 1}
    assert host.client.observe("e")["candidate"]["latency_ms_sum"] > before + 3000
    assert host.scorer_pids() == pids


def test_shield_hides_a_bad_candidate_from_users_and_not_from_its_counters(host):
    for payload, kind in ((RAISES, "errors"), (WRONG, "schema_violations")):
        put(host.client, "e", HALF, shield=False)
        open_ = ask(host, payload, 20)
        assert set(open_) == {200, 500}
        put(host.client, "e", HALF, shield=True)
        before, champion = counts(host), counts(host, "champion")
        assert ask(host, payload, 30) == {200: 30}
        failed = counts(host)[kind] - before[kind]
        assert failed == counts(host)["requests"] - before["requests"] > 0
        asked = counts(host, "champion")["requests"] - champion["requests"]
        assert (asked, failed + asked) == (30 - failed, 30)  # each request counts where it began
        assert counts(host, "champion")["errors"] == champion["errors"]
    host.client.rotate_logs("e")
    logged = list(read_segments(host.workspace / "serving" / "logs" / "e"))
    again = [item for item in logged if item["attempt"] == 2 and item["status"] == 200]
    assert {item["deployment"] for item in again} >= {"champion"}


def test_client_that_sends_nonsense_counts_against_nobody(host):
    put(host.client, "e", HALF, shield=True)
    before = {name: counts(host, name) for name in HALF}
    url = f"{url_of(host)}/invocations"
    bodies = [b"{", b"[]", b"\xff\xfe", b'{"inputs": ', b'{"dataframe_records": [{"x": "a"}]}']
    for body in bodies * 3:
        answer = httpx.post(url, content=body, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500
    large = httpx.post(url, content=b"x" * (17 << 20), timeout=30)
    assert large.status_code == 413
    for name in HALF:
        assert counts(host, name)["errors"] == before[name]["errors"]
    asked = sum(
        counts(host, name)["client_errors"] - before[name]["client_errors"] for name in HALF
    )
    assert asked == 15
    address = urlsplit(url)
    for raw in (b"nonsense\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\x00" * 4096):
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            connection.sendall(raw)
            assert b"200 OK" not in connection.recv(4096)
    assert ask(host, ROW, 5) == {200: 5}


def test_admin_lets_in_nobody_without_its_token_and_no_nonsense(host):
    before = host.client.get_state("e")
    url = host.client.admin_url
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eA=="}):
        for path in ("/", "/metrics", "/endpoints/e", "/endpoints/e/counters"):
            assert httpx.get(url + path, headers=headers).status_code == 401
        answer = httpx.put(f"{url}/endpoints/e/traffic", headers=headers, content=b"x" * 9999)
        assert answer.status_code == 401
    token = (host.workspace / "serving" / "token").read_text()
    good = {"authorization": f"Bearer {token}"}
    for body in (b"{", b"[]", b'{"traffic": {"champion": 101}, "generation": 0}', b"\xff", b"7"):
        answer = httpx.put(f"{url}/endpoints/e/traffic", headers=good, content=body)
        assert answer.status_code in (400, 409)
    large = httpx.put(f"{url}/endpoints/e/rollout", headers=good, content=b"x" * (2 << 20))
    assert large.status_code == 400
    with pytest.raises(ParameterError, match="token"):
        ServingClient(url, "").list_endpoints()
    assert "mlops_serving_requests_total" in httpx.get(f"{url}/metrics", headers=good).text
    assert host.client.get_state("e") == before


def test_weights_that_were_edited_in_the_routers_file_are_put_back(host):
    put(host.client, "e", {"champion": 100})
    file = host.workspace / "serving" / "router" / "rds.json"
    edited = file.read_text().replace('"e/champion"', '"e/candidate"')
    written = file.with_suffix(".edited")
    written.write_text(edited)
    written.rename(file)
    until(lambda: '"e/champion"' in file.read_text())
    until(lambda: deployment_asked(host) == "champion")
    assert host.client.get_state("e").traffic == {"champion": 100}


def deployment_asked(host: Host) -> str:
    return httpx.post(f"{url_of(host)}/invocations", json=ROW).headers["x-deployment"]


def test_deployment_that_is_removed_finishes_what_it_has_begun(host, models):
    host.client.create_deployment("e", "leaving", models["moody"])
    put(host.client, "e", {"leaving": 100})
    answers: list[httpx.Response] = []
    url = f"{url_of(host)}/invocations"

    def slow() -> None:
        answers.append(httpx.post(url, json=row(0.5, 3), timeout=30))

    asking = threading.Thread(target=slow)
    with load(url_of(host), rate=10) as seen:
        asking.start()
        time.sleep(0.7)  # it has reached the model
        put(host.client, "e", {"champion": 100})
        host.client.delete_deployment("e", "leaving")
        asking.join()
    assert [(each.status_code, each.headers["x-deployment"]) for each in answers] == [
        (200, "leaving")
    ]
    assert {status for status, _ in seen} == {200}
    assert "leaving" not in host.scorer_pids()


def test_worker_that_dies_leaves_its_siblings_serving(host, models):
    host.client.create_deployment("e", "team", models["champion"], options={"workers": 2})
    put(host.client, "e", {"team": 100})
    first, second = (each["pid"] for each in host.client.status("e")["team"]["workers"])
    with load(url_of(host), rate=40) as seen:
        until(lambda: len(seen) > 20)
        os.kill(first, signal.SIGKILL)
        until(lambda: host.client.status("e")["team"]["restarts"] == {"ended": 1}, 30)
        until(lambda: healthy(host.client, "team"), 60)
        told = len(seen)
        until(lambda: len(seen) > told + 20)
    assert Counter(status for status, _ in seen) == {200: len(seen)}
    workers = {each["pid"] for each in host.client.status("e")["team"]["workers"]}
    assert second in workers
    assert first not in workers
    assert len(list((host.workspace / "serving" / "counters" / "e").glob("team*.bin"))) == 2
    host.client.rotate_logs("e")
    logs = host.workspace / "serving" / "logs" / "e"
    assert not list(logs.glob("team-*.open"))
    assert {path.stem.split("-")[1] for path in logs.glob("team-*.jsonl")} >= {str(second)}
    put(host.client, "e", {"champion": 100})
    host.client.delete_deployment("e", "team")


@pytest.mark.slow
def test_scorer_that_grows_is_replaced_before_users_notice(host, models):
    host.client.create_deployment("e", "leaking", models["leaking"])
    (worker,) = host.client.status("e")["leaking"]["workers"]
    limit = int(worker["memory_mb"]) + 150
    host.client.delete_deployment("e", "leaking")
    host.client.create_deployment("e", "leaking", models["leaking"], options={"memory_mb": limit})
    put(host.client, "e", {"leaking": 100})
    with load(url_of(host), rate=40) as seen:
        until(lambda: host.client.status("e")["leaking"]["restarts"].get("memory", 0) >= 2, 180)
    assert Counter(status for status, _ in seen) == {200: len(seen)}
    assert counts(host, "leaking")["requests"] == len(seen)
    put(host.client, "e", {"champion": 100})
    host.client.delete_deployment("e", "leaking")


@pytest.mark.slow
def test_model_is_served_in_the_environment_it_declares(host, models):
    host.client.create_deployment(
        "e", "own", models["champion"], timeout=900, options={"environment": "declared"}
    )
    (pid,) = {each["pid"] for each in host.client.status("e")["own"]["workers"]}
    assert os.readlink(f"/proc/{pid}/exe") != sys.executable
    command = Path(f"/proc/{pid}/cmdline").read_text()
    assert "environments" in command.partition("\0")[0]
    put(host.client, "e", {"own": 100})
    assert ask(host, ROW, 5) == {200: 5}
    put(host.client, "e", {"champion": 100})
    host.client.delete_deployment("e", "own")


def test_children_of_a_host_that_nobody_follows_end(models, tmp_path):
    host = Host(tmp_path, models["tracking_uri"], "--orphan-seconds", "1")
    try:
        left = [pid for pid, _ in host.children()]
        assert len(left) == 2
        host.stop(signal.SIGKILL)
        until(lambda: not any(map(alive, left)), 30)
    finally:
        host.close()


def test_router_that_listens_elsewhere_than_asked_is_not_adopted(models, tmp_path):
    first = Host(tmp_path, models["tracking_uri"])
    (port,) = free_ports(1)
    try:
        (left,) = first.router_pids()
        first.stop(signal.SIGKILL)
        second = Host(tmp_path, models["tracking_uri"], "--port", str(port))
        try:
            (router,) = second.router_pids()
            assert router != left
            assert len(keepers(second)) == 1
            unknown = httpx.post(f"http://127.0.0.1:{port}/endpoints/e/invocations", json=ROW)
            assert unknown.status_code == 404
        finally:
            second.close()
    finally:
        first.close()


def test_state_that_was_edited_into_nonsense_is_named(models, tmp_path):
    file = tmp_path / "serving" / "state.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"endpoints": {"e": {"traffic": {"v9": 100}}}}))
    process = start(tmp_path, "--tracking-uri", models["tracking_uri"])
    _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert error.count("\n") == 1
    assert str(file) in error
