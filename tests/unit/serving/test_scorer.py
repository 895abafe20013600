from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
from types import SimpleNamespace

import httpx
import pytest
from starlette.testclient import TestClient

from airflow_mlops_provider.serving import line, prediction_log
from airflow_mlops_provider.serving.answers import Scorer
from airflow_mlops_provider.serving.counters import Counters
from airflow_mlops_provider.serving.options import DeploymentOptions
from airflow_mlops_provider.serving.prediction_log import PredictionLog, read_segments
from airflow_mlops_provider.serving.scorer_app import build_app
from airflow_mlops_provider.serving.scoring import Predictor

KEYS = {
    "request_id",
    "row",
    "ts",
    "endpoint",
    "deployment",
    "model_uri",
    "entity_id",
    "inputs",
    "outputs",
    "status",
    "error_class",
    "latency_ms",
    "attempt",
    "shadow",
}


@pytest.fixture
def scorer(tmp_path) -> Scorer:
    model = SimpleNamespace(
        predict=lambda data: (data["x"] * 2).to_numpy(),
        metadata=SimpleNamespace(signature=None),
    )
    return Scorer(
        endpoint="e",
        deployment="v1",
        model_uri="models:/m/1",
        predictor=Predictor(model),
        log=PredictionLog(tmp_path / "logs", "v1", durability="power"),
        counters=Counters(tmp_path / "counters"),
    )


def test_each_row_is_logged_with_exactly_the_agreed_keys(scorer):
    headers = {"x-request-id": "r", "x-entity-id": "e7", "x-envoy-attempt-count": "2"}
    with TestClient(build_app(scorer)) as client:
        payload = {"dataframe_records": [{"x": 1}, {"x": 2}]}
        answer = client.post("/invocations", json=payload, headers=headers)
    assert answer.json() == {"predictions": [2, 4]}
    assert (answer.headers["x-deployment"], answer.headers["x-model-uri"]) == ("v1", "models:/m/1")
    first, second = read_segments(scorer.log.folder)
    assert set(first) == set(second) == KEYS
    assert [first["row"], second["row"]] == [0, 1]
    assert (second["inputs"], second["outputs"]) == ({"x": 2}, 4)
    assert (first["request_id"], first["entity_id"], first["attempt"]) == ("r", "e7", 2)
    assert (first["status"], first["error_class"], first["shadow"]) == (200, None, False)
    # what others failed at says nothing fair of this one
    assert scorer.counters.read()["requests"] == 0


def test_shadow_request_counts_apart(scorer):
    with TestClient(build_app(scorer)) as client:
        payload = {"dataframe_records": [{"x": 1}]}
        client.post("/invocations", json=payload, headers={"host": "127.0.0.1-shadow:8601"})
    counts = scorer.counters.read()
    assert (counts["requests"], counts["shadow_requests"]) == (0, 1)
    assert counts["latency_buckets"]["+Inf"] == 0
    assert [record["shadow"] for record in read_segments(scorer.log.folder)] == [True]


def test_prediction_that_cannot_be_logged_is_not_given(scorer):
    with TestClient(build_app(scorer)) as client:
        scorer.log.close()
        answer = client.post("/invocations", json={"dataframe_records": [{"x": 1}]})
    assert answer.status_code == 500
    assert "could not be logged" in answer.json()["message"]


def test_rotation_closes_the_open_segment(scorer):
    with TestClient(build_app(scorer)) as client:
        client.post("/invocations", json={"dataframe_records": [{"x": 1}]})
        assert list(read_segments(scorer.log.folder)) == []
        client.post("/logs/rotate")
        assert len(list(read_segments(scorer.log.folder))) == 1


@pytest.mark.parametrize(("told", "attempt"), [("3", 3), ("\u00b2", 1), ("many", 1)])
def test_attempt_that_is_no_number_is_the_first(scorer, told, attempt):
    headers = {"x-envoy-attempt-count": told.encode("latin-1")}
    with TestClient(build_app(scorer)) as client:
        client.post("/invocations", json={"dataframe_records": [{"x": 1}]}, headers=headers)
    assert [record["attempt"] for record in read_segments(scorer.log.folder)] == [attempt]


@pytest.mark.parametrize("stated", [True, False])
def test_body_that_is_too_large_is_refused_unread(scorer, monkeypatch, stated):
    monkeypatch.setattr("airflow_mlops_provider.serving.line._MAX_BODY_BYTES", 1000)
    body = b"x" * 1001
    with TestClient(build_app(scorer)) as client:
        answer = client.post("/invocations", content=body if stated else iter([body]))
    assert answer.status_code == 413
    assert "at most 1000 bytes" in answer.json()["message"]


@pytest.mark.parametrize("path", ["/ping", "/health", "/version"])
def test_probes_answer(scorer, path):
    with TestClient(build_app(scorer)) as client:
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(("policy", "status"), [("fail", 500), ("drop", 200)])
def test_an_unlogged_prediction_is_given_only_if_it_may_be_dropped(scorer, policy, status):
    options = DeploymentOptions(on_log_failure=policy)
    scorer = dataclasses.replace(scorer, options=options)
    with TestClient(build_app(scorer)) as client:
        scorer.log.close()
        answer = client.post("/invocations", json={"dataframe_records": [{"x": 1}]})
    counts = scorer.counters.read()
    assert answer.status_code == status
    assert (counts["requests"], counts["errors"]) == (1, status == 500)
    assert counts["unlogged"] == (status == 200)


def test_scores_of_live_answers_are_summed(scorer):
    with TestClient(build_app(scorer)) as client:
        client.post("/invocations", json={"dataframe_records": [{"x": 1}, {"x": 2}]})
        shadow = {"host": "127.0.0.1-shadow:8601"}
        client.post("/invocations", json={"dataframe_records": [{"x": 1}]}, headers=shadow)
    counts = scorer.counters.read()
    assert (counts["scored"], counts["score_sum"], counts["score_sq_sum"]) == (2, 6, 20)


async def test_a_stalled_disk_neither_hangs_the_loop_nor_lets_requests_pile_up(scorer, monkeypatch):
    monkeypatch.setattr(line, "_MAX_QUEUED", 3)
    moving, write = threading.Event(), os.write
    monkeypatch.setattr(
        prediction_log.os, "write", lambda fd, data: moving.wait(30) and write(fd, data)
    )
    payload = {"dataframe_records": [{"x": 1}]}
    transport = httpx.ASGITransport(build_app(scorer))
    async with httpx.AsyncClient(transport=transport, base_url="http://scorer") as client:
        waiting = [asyncio.create_task(client.post("/invocations", json=payload)) for _ in "123"]
        await asyncio.sleep(0)
        while (await client.get("/ping")).status_code == 200 and scorer.log._written == 0:
            refused = await client.post("/invocations", json=payload)
            if refused.status_code == 503:
                break
        assert not any(each.done() for each in waiting)
        moving.set()
        answers = await asyncio.gather(*waiting)
    assert [each.status_code for each in answers] == [200] * 3
    assert "Try later" in refused.json()["message"]
    assert scorer.counters.read()["errors"] == 1
    scorer.log.close()
