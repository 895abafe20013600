from __future__ import annotations

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from airflow_mlops_provider.serving import admin
from airflow_mlops_provider.serving import host as module
from airflow_mlops_provider.serving import state as states
from airflow_mlops_provider.serving.admin import build_app
from airflow_mlops_provider.serving.counters import Counters, counters_path
from airflow_mlops_provider.serving.host import ServingHost
from airflow_mlops_provider.serving.state import Deployment, EndpointState

STATE = EndpointState(deployments={"v1": Deployment(model_uri="models:/m/1")}, traffic={"v1": 100})
GOOD = {"authorization": "Bearer secret"}


class FakeEnvoy:
    """Serves whatever it is told."""

    def __init__(self, *address) -> None:
        pass

    instance = "1"

    async def apply(self, endpoints, addresses) -> None:
        pass

    async def unanswered(self) -> dict[str, int]:
        return {}


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
        if route.path in ("/openapi.json", "/docs"):  # they tell nothing of this host
            continue
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


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_counter_that_is_no_number_is_null(app, tmp_path, value):
    states.save(tmp_path / "state.json", {"e": STATE})
    host = ServingHost(tmp_path, "uri", "127.0.0.1", 1)
    client = TestClient(build_app(host, "secret"), headers=GOOD)
    counters = Counters(counters_path(tmp_path, "e", "v1"))
    counters.add("score_sum", value)
    counters.add("requests")
    found = client.get("/endpoints/e/counters").json()["v1"]
    assert (found["score_sum"], found["requests"]) == (None, 1)


def test_body_that_is_too_large_is_refused_unread(client, monkeypatch):
    monkeypatch.setattr(admin, "_MAX_BODY_BYTES", 100)
    client.put("/endpoints/e")
    answer = client.put("/endpoints/e/rollout", json={"document": {"x": "y" * 100}})
    assert answer.status_code == 400
    assert "at most 100 bytes" in answer.json()["message"]


def test_unknown_option_is_named(client):
    client.put("/endpoints/e")
    body = {"name": "v1", "model_uri": "models:/m/1", "timeout": 1, "options": {"worker": 2}}
    answer = client.post("/endpoints/e/deployments", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "RecordError")
    assert "worker" in answer.json()["message"]


def test_description_names_every_call_and_loads_nothing(app):
    stranger = TestClient(app)
    described = stranger.get("/openapi.json").json()
    routed = {route.path for route in app.routes} - {"/openapi.json", "/docs"}
    assert set(described["paths"]) == routed
    for operations in described["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
    body = described["paths"]["/endpoints/{endpoint}/traffic"]["put"]["requestBody"]
    assert "shield" in body["content"]["application/json"]["schema"]["properties"]
    page = stranger.get("/docs").text
    assert "PUT /endpoints/{endpoint}/traffic" in page
    assert "http" not in page.replace("https", "http").split("<style>")[1]


@pytest.mark.usefixtures("app")
def test_metrics_name_endpoint_and_deployment(tmp_path):
    states.save(tmp_path / "state.json", {"e": STATE})
    counters = Counters(counters_path(tmp_path, "e", "v1"))
    counters.add("requests", 3)
    counters.add_latency(4)
    found = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(metrics_of(tmp_path))
        for sample in family.samples
        if (sample.labels["endpoint"], sample.labels["deployment"]) == ("e", "v1")
    }
    assert found["mlops_serving_requests_total", None] == 3
    assert found["mlops_serving_traffic_percent", None] == 100
    assert found["mlops_serving_latency_seconds_bucket", "0.005"] == 1
    assert found["mlops_serving_latency_seconds_bucket", "0.002"] == 0
    assert found["mlops_serving_latency_seconds_sum", None] == pytest.approx(0.004)
    assert found["mlops_serving_workers", None] == 0


def metrics_of(folder):
    app = build_app(ServingHost(folder, "uri", "127.0.0.1", 1), "secret", public_metrics=True)
    answer = TestClient(app).get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


def test_pairs_are_counted_at_a_tolerance(client):
    client.put("/endpoints/e")
    assert client.get("/endpoints/e/pairs?tolerance=0.1").json() == {}
    for tolerance in ("-1", "nan", "much"):
        assert client.get(f"/endpoints/e/pairs?tolerance={tolerance}").status_code == 400
