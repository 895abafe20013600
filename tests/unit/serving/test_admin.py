from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from airflow_mlops_provider.serving import admin
from airflow_mlops_provider.serving import host as module
from airflow_mlops_provider.serving.admin import build_app
from airflow_mlops_provider.serving.host import ServingHost

GOOD = {"authorization": "Bearer secret"}


class FakeEnvoy:
    """Serves whatever it is told."""

    def __init__(self, *address) -> None:
        pass

    async def apply(self, endpoints, addresses) -> None:
        pass


@pytest.fixture
def app(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Envoy", FakeEnvoy)
    return build_app(ServingHost(tmp_path, "uri", "127.0.0.1", 1), "secret")


@pytest.fixture
def client(app):
    return TestClient(app, headers=GOOD, raise_server_exceptions=False)


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}, {"authorization": "Ä"}],
)
def test_every_call_needs_the_token(app, headers):
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    stranger = TestClient(app, headers=sent)
    assert len(app.routes) > 10
    for route in app.routes:
        path = route.path.format(endpoint="e", name="v1")
        for method in route.methods:
            assert stranger.request(method, path).status_code == 401


@pytest.mark.parametrize(
    "name", ["..%2F..%2Fx", "%2e%2e", "a%2Fb", "a.b", "a%00b", "a%20b", "-a", "a" * 64]
)
def test_name_that_would_leave_its_folder_is_refused(client, tmp_path, name):
    assert client.put(f"/endpoints/{name}").status_code in (400, 404)
    client.put("/endpoints/e")
    body = {"name": "../../x", "model_uri": "models:/m/1", "timeout": 1}
    assert client.post("/endpoints/e/deployments", json=body).status_code == 400
    assert {path.name for path in tmp_path.iterdir()} == {"state.json"}


@pytest.mark.parametrize("body", ["{", "[]", '"x"', "[" * 200_000, '{"traffic": {}}', "{}", "\xff"])
@pytest.mark.parametrize("path", ["traffic", "rollout"])
def test_json_that_is_not_what_a_call_takes_is_a_400(client, path, body):
    client.put("/endpoints/e")
    answer = client.put(f"/endpoints/e/{path}", content=body.encode("latin-1"))
    assert (answer.status_code, answer.json()["error"]) == (400, "ParameterError")


def test_body_that_is_too_large_is_refused_unread(client, monkeypatch):
    monkeypatch.setattr(admin, "_MAX_BODY_BYTES", 100)
    client.put("/endpoints/e")
    answer = client.put("/endpoints/e/rollout", json={"document": {"x": "y" * 100}})
    assert answer.status_code == 400
    assert "at most 100 bytes" in answer.json()["message"]


def test_pairs_are_counted_at_a_tolerance(client):
    client.put("/endpoints/e")
    assert client.get("/endpoints/e/pairs?tolerance=0.1").json() == {}
    for tolerance in ("-1", "nan", "much"):
        assert client.get(f"/endpoints/e/pairs?tolerance={tolerance}").status_code == 400
