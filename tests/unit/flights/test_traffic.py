import json
import threading

import httpx
import pandas as pd

from flights.columns import ENTITY, FEATURES, TIME
from flights.traffic import Traffic, rows_of


class Endpoint:
    """Answers like a serving host, and remembers what it was asked."""

    def __init__(self, enough, answer):
        self.requests, self.answer = [], answer
        self.enough, self.reached = enough, threading.Event()

    def __call__(self, request):
        self.requests.append(request)
        if len(self.requests) >= self.enough:
            self.reached.set()
        return self.answer(len(self.requests))

    def asked(self, rows):
        with Traffic("http://host/endpoints/e", rows, 1000, httpx.MockTransport(self)) as traffic:
            assert self.reached.wait(20)
        return traffic.answers


def served(number):
    deployment = "v2" if number % 10 == 0 else "v1"
    return httpx.Response(200, json={}, headers={"x-deployment": deployment})


def test_rows_are_sent_again_and_again_each_with_an_id_of_its_own():
    endpoint = Endpoint(30, served)
    answers = endpoint.asked([("f1", {"x": 1}), ("f2", {"x": None})])
    sent = {
        (each.headers["x-entity-id"], json.loads(each.content)["dataframe_records"][0]["x"])
        for each in endpoint.requests
    }
    assert sent == {("f1", 1), ("f2", None)}
    assert len({each.headers["x-request-id"] for each in endpoint.requests}) == answers.sent
    assert endpoint.requests[0].url == "http://host/endpoints/e/invocations"


def test_answers_are_counted_by_deployment():
    answers = Endpoint(30, served).asked([("f", {})])
    assert answers.failed == 0
    assert answers.by_deployment["v2"] == answers.sent // 10
    assert answers.by_deployment.total() == answers.sent


def test_failures_are_counted_and_the_first_ones_told():
    def refuse(number):
        if number % 2:
            raise httpx.ConnectError("refused")
        return httpx.Response(503, text="no scorer")

    answers = Endpoint(30, refuse).asked([("f", {})])
    assert answers.failed == answers.sent >= 30
    assert len(answers.failures) == 5
    assert set(answers.failures) == {"ConnectError: refused", "503: no scorer"}


def flights(path, rows):
    row = dict.fromkeys(FEATURES, 1.5) | {"carrier": "AA", "temp": float("nan"), "late": 1}
    times = pd.date_range("2013-03-01", periods=rows, tz="UTC")[::-1]
    pd.DataFrame([{**row, ENTITY: f"f{t.day}", TIME: t} for t in times]).to_parquet(path)
    return str(path)


def test_missing_values_become_null(tmp_path):
    ((entity, features),) = rows_of(flights(tmp_path / "set.parquet", 1), newest=1)
    assert entity == "f1"
    assert list(features) == FEATURES
    assert features["temp"] is None
    assert features["carrier"] == "AA"


def test_only_the_newest_flights_are_asked_about_oldest_first(tmp_path):
    rows = rows_of(flights(tmp_path / "set.parquet", 10))
    assert [entity for entity, _ in rows] == ["f9", "f10"]
