from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_mlops_provider.exceptions import DataError, ServiceError
from airflow_mlops_provider.steps.pipeline_cd.api import AirflowApi

ERRORS = [
    {"filename": f"{number}.py", "stack_trace": "Error", "bundle_name": bundle}
    for number, bundle in enumerate(["pipeline", "other"] * 60)
]


class FakeAirflow(ThreadingHTTPServer):
    """Answers as Airflow does; ``answers`` by method and path, else 404."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers: dict[tuple[str, str], tuple[int, object]] = {}
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[dict[str, object]] = []
        self.tokens = 0


class Handler(BaseHTTPRequestHandler):
    server: FakeAirflow

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.bodies.append(json.loads(self.rfile.read(length)))
        self._answer("POST")

    def _answer(self, method: str) -> None:
        url = urlsplit(self.path)
        self.server.asked.append((method, url.path))
        status, content = self._found(method, url.path, parse_qs(url.query))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def _found(self, method: str, path: str, query: dict[str, list[str]]) -> tuple[int, object]:
        if path == "/auth/token":
            self.server.tokens += 1
            return 201, {"access_token": f"token-{self.server.tokens}"}
        if self.headers["Authorization"] == "Bearer token-0":
            return 401, "expired"
        if path == "/api/v2/importErrors":
            start = int(query["offset"][0])
            page = ERRORS[start : start + int(query["limit"][0])]
            return 200, {"import_errors": page, "total_entries": len(ERRORS)}
        return self.server.answers.get((method, path), (404, "nothing"))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def airflow() -> Iterator[FakeAirflow]:
    server = FakeAirflow()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def api(airflow):
    with AirflowApi(airflow.url + "/", "ada", "secret") as opened:
        yield opened


RUNS = "/api/v2/dags/train/dagRuns"


def test_it_logs_in_once(api, airflow):
    airflow.answers["GET", "/api/v2/dags/train"] = (200, {"is_paused": False})
    assert [api.dag("train"), api.dag("train")] == [{"is_paused": False}] * 2
    assert airflow.tokens == 1
    assert airflow.bodies == [{"username": "ada", "password": "secret"}]


def test_it_logs_in_again_when_its_token_has_expired(airflow):
    with AirflowApi(airflow.url, "ada", "secret", token="token-0") as api:
        assert api.dag("train") is None
    assert airflow.tokens == 1


def test_a_token_that_is_refused_is_a_matter_for_a_person(airflow):
    with (
        AirflowApi(airflow.url, token="token-0") as api,
        pytest.raises(DataError, match=r"401.*Check login"),
    ):
        api.dag("train")


def test_names_cannot_leave_their_place_in_the_path(api, airflow):
    api.run("a/../b", "r?x#y")
    assert airflow.asked[-1] == ("GET", "/api/v2/dags/a%2F..%2Fb/dagRuns/r%3Fx%23y")


def test_the_import_errors_of_one_bundle_are_read_page_by_page(api):
    found = api.import_errors("pipeline")
    assert len(found) == 60
    assert found["118.py"] == "Error"


def test_a_run_that_is_there_is_not_started_again(api, airflow):
    airflow.answers["GET", f"{RUNS}/r"] = (200, {"dag_run_id": "r"})
    assert api.start_run("train", "r", {}) == {"dag_run_id": "r"}
    assert ("POST", RUNS) not in airflow.asked


def test_a_run_of_a_dag_that_is_not_there_is_refused(api):
    with pytest.raises(DataError, match="has no DAG 'train'"):
        api.start_run("train", "r", {})


def test_a_run_is_started_without_a_date(api, airflow):
    airflow.answers["POST", RUNS] = (409, "a rival has just started it")
    with pytest.raises(DataError, match="has no DAG"):  # the fake forgets what it started
        api.start_run("train", "r", {"rows": 3})
    assert airflow.bodies[-1] == {"dag_run_id": "r", "logical_date": None, "conf": {"rows": 3}}


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (403, DataError, "Check login and rights"),
        (422, DataError, "Correct the environment's"),
        (500, ServiceError, "answered 500"),
    ],
)
def test_an_answer_that_is_an_error_tells_if_waiting_helps(api, airflow, status, error, message):
    airflow.answers["GET", f"{RUNS}/r"] = (status, "so it is")
    with pytest.raises(error, match=message):
        api.run("train", "r")


def test_failed_tasks_and_results(api, airflow):
    tasks = f"{RUNS}/r/taskInstances"
    airflow.answers["GET", tasks] = (200, {"task_instances": [{"task_id": "fit"}]})
    airflow.answers["GET", f"{tasks}/evaluate/xcomEntries/return_value"] = (200, {"value": [1]})
    assert api.failed_tasks("train", "r") == ["fit"]
    assert api.result("train", "r", "evaluate") == [1]
    assert api.result("train", "r", "fit") is None


def test_an_airflow_that_does_not_answer_may_answer_later():
    with (
        AirflowApi("http://127.0.0.1:9", "ada", "secret") as api,
        pytest.raises(ServiceError, match="did not answer POST /auth/token"),
    ):
        api.dag("train")
