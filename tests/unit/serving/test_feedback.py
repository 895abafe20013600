from __future__ import annotations

import json
import os
from datetime import datetime
from itertools import pairwise

import pytest
from starlette.testclient import TestClient

from airflow_mlops_provider.serving import admin, feedback, prediction_log
from airflow_mlops_provider.serving import host as module
from airflow_mlops_provider.serving.admin import build_app
from airflow_mlops_provider.serving.feedback import FeedbackLog
from airflow_mlops_provider.serving.host import ServingHost
from airflow_mlops_provider.serving.options import DeploymentOptions
from airflow_mlops_provider.serving.prediction_log import read_segments
from airflow_mlops_provider.serving.privacy import Privacy, log_key
from airflow_mlops_provider.serving.state import Deployment, EndpointState

PATH = "/endpoints/e/feedback"
OUTCOME = {"request_id": "r1", "label": 1}


class FakeEnvoy:
    """Serves nothing."""

    def __init__(self, *address) -> None:
        pass


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Envoy", FakeEnvoy)
    host = ServingHost(tmp_path, "uri", "127.0.0.1", 1)
    host.endpoints["e"] = EndpointState()
    yield host
    host._feedback.close()


@pytest.fixture
def client(host):
    app = build_app(host, "secret")
    return TestClient(app, headers={"authorization": "Bearer secret"})


@pytest.fixture
def kept(host, tmp_path):
    """Return what the closed segments hold."""

    def kept():
        host._feedback.rotate("e")
        return list(read_segments(tmp_path / "feedback" / "e"))

    return kept


def test_one_outcome_or_several_are_kept_with_the_time_they_came(client, kept):
    one = client.post(PATH, json=OUTCOME).json()["feedback_ids"]
    entity = {"entity_id": "ä", "event_ts": "2013-07-01T02:00:00+02:00", "label": "late"}
    body = {"feedback": [{**OUTCOME, "row": 3, "feedback_id": "mine", "label": False}, entity]}
    several = client.post(PATH, json=body).json()["feedback_ids"]
    records = kept()
    assert [record["feedback_id"] for record in records] == one + several
    assert several[0] == "mine"
    assert [record["label"] for record in records] == [1, False, "late"]
    assert records[2]["event_ts"] == "2013-07-01T00:00:00+00:00"
    assert (records[1]["row"], records[2]["entity_id"]) == (3, "ä")
    received = [datetime.fromisoformat(record["received_at"]) for record in records]
    assert all(earlier < later for earlier, later in pairwise(received))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"label": None}, "label"),
        ({"label": "x" * 257}, "label"),
        ({"label": 10**400}, "label"),
        ({"label": [1]}, "label"),
        ({"request_id": None}, "request_id"),
        ({"entity_id": "x"}, "request_id"),
        ({"request_id": None, "entity_id": "x"}, "event_ts"),
        ({"request_id": ""}, "request_id"),
        ({"event_ts": "soon"}, "event_ts"),
        ({"event_ts": "0001-01-01T00:00:00+14:00"}, "event_ts"),
        ({"row": -1}, "row"),
        ({"row": 0.5}, "row"),
        ({"feedback_id": "x" * 300}, "feedback_id"),
        ({"outcome": 1}, "outcome"),
    ],
)
def test_a_wrong_outcome_is_named_with_its_place_and_none_is_kept(client, kept, changes, named):
    wrong = json.dumps({"feedback": [OUTCOME, {**OUTCOME, **changes}]})
    answer = client.post(PATH, content=wrong)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("feedback[1]: ")
    assert named in answer.json()["message"]
    assert kept() == []


@pytest.mark.parametrize("body", ["{", "[]", "{}", '{"feedback": []}', '{"feedback": {}}'])
def test_a_body_without_outcomes_is_refused(client, kept, body):
    answer = client.post(PATH, content=body)
    assert (answer.status_code, kept()) == (400, [])


def test_too_much_at_once_is_refused(client, monkeypatch):
    monkeypatch.setattr(feedback, "MAX_ITEMS", 2)
    answer = client.post(PATH, json={"feedback": [OUTCOME] * 3})
    assert "a list of 1 to 2 outcomes. Got 3" in answer.json()["message"]
    monkeypatch.setattr(admin, "_MAX_BODY_BYTES", 100)
    answer = client.post(PATH, json={**OUTCOME, "feedback_id": "x" * 100})
    assert "at most 100 bytes" in answer.json()["message"]


def test_feedback_for_an_unknown_endpoint_is_refused_and_makes_no_folder(client, tmp_path):
    assert client.post("/endpoints/nobody/feedback", json=OUTCOME).status_code == 400
    assert not (tmp_path / "feedback").exists()


def test_what_the_disk_refuses_is_not_accepted(client, kept, monkeypatch):
    client.post(PATH, json=OUTCOME)

    def full(fd, data):
        os.write(fd, data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(prediction_log, "_write_all", full)
        answer = client.post(PATH, json=OUTCOME)
        assert (answer.status_code, answer.json()["error"]) == (503, "ServingUnavailableError")
        assert "No space left" in answer.json()["message"]
    assert client.post(PATH, json={**OUTCOME, "feedback_id": "again"}).status_code == 200
    assert [record["feedback_id"] for record in kept()][1:] == ["again"]


def test_an_answer_waits_for_the_disk(client, monkeypatch):
    def broken(fd):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(prediction_log.os, "fsync", broken)
        assert client.post(PATH, json=OUTCOME).status_code == 503


@pytest.mark.parametrize(
    ("option", "status"), [("log_drop_columns", 400), ("log_hash_columns", 200)]
)
def test_entities_are_kept_as_the_prediction_log_keeps_them(
    client, host, kept, tmp_path, option, status
):
    options = DeploymentOptions.of({option: ["entity_id"]})
    deployments = {"v1": Deployment(model_uri="models:/m/1", options=options)}
    host.endpoints["e"] = EndpointState(deployments=deployments)
    outcome = {"entity_id": "Ada", "event_ts": "2013-07-01", "label": 1}
    assert client.post(PATH, json=outcome).status_code == status
    privacy = Privacy(hashed=frozenset({"entity_id"}), key=log_key(tmp_path))
    expected = [privacy.entity("Ada")] if status == 200 else []
    assert [record["entity_id"] for record in kept()] == expected
    assert client.post(PATH, json=OUTCOME).status_code == 200


async def test_the_next_host_closes_what_a_killed_one_left_open(tmp_path):
    killed = FeedbackLog(tmp_path)
    await killed.append("e", feedback.parsed(OUTCOME), Privacy())
    assert list(read_segments(tmp_path / "e")) == []
    FeedbackLog(tmp_path).close_orphans()
    assert [record["request_id"] for record in read_segments(tmp_path / "e")] == ["r1"]
