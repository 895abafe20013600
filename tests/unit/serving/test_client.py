from __future__ import annotations

import json

import httpx
import pytest

from airflow_mlops_provider.exceptions import (
    ModelError,
    ParameterError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.serving import client as module
from airflow_mlops_provider.serving.client import ServingClient

REF = {
    "endpoint": "e",
    "url": "http://router/endpoints/e",
    "deployments": {},
    "traffic": {},
    "mirror_traffic": {},
    "generation": 0,
}


def client_of(handler) -> ServingClient:
    client = ServingClient("http://admin/", "secret")
    client._client = httpx.Client(transport=httpx.MockTransport(handler))
    return client


def test_token_goes_to_the_admin_and_not_to_the_router():
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, request.headers.get("authorization")))
        return httpx.Response(200, json={"predictions": [1]} if request.method == "POST" else REF)

    assert client_of(handler).predict("e", {"inputs": [1]}) == {"predictions": [1]}
    assert seen == [("admin", "Bearer secret"), ("router", None)]


def test_without_a_token_the_host_is_asked_all_the_same():
    def handler(request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        return httpx.Response(401, json={"error": "ParameterError", "message": "no token"})

    client = ServingClient("http://admin/", "")
    client._client = httpx.Client(transport=httpx.MockTransport(handler))
    with pytest.raises(ParameterError, match="no token"):
        client.list_endpoints()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": "ParameterError", "message": "why"}, ParameterError),
        (409, {"error": "RegistryConflictError", "message": "why"}, RegistryConflictError),
        (422, {"error": "ModelError", "message": "why"}, ModelError),
        (503, {"error": "ServingUnavailableError", "message": "why"}, ServingUnavailableError),
        (404, ["why"], ParameterError),
        (500, ["why"], ServingUnavailableError),
    ],
)
def test_refusals_keep_their_kind_and_reason(status, body, error):
    client = client_of(lambda request: httpx.Response(status, json=body))
    with pytest.raises(error, match="why"):
        client.get_state("e")


@pytest.mark.parametrize("call", ["capabilities", "list_endpoints"])
def test_silent_host_is_named_with_the_remedy(call):
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(ServingUnavailableError, match=r"http://admin .*airflow-mlops serve"):
        getattr(client_of(handler), call)()


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, ParameterError), (500, ModelError), (503, ServingUnavailableError)],
)
def test_failed_prediction_says_whose_fault_it_is(status, error):
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=REF) if request.method == "GET" else httpx.Response(status)

    with pytest.raises(error, match=str(status)):
        client_of(handler).predict("e", {})


def test_what_is_asked_for_is_sent():
    sent = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append((request.method, request.url.path, json.loads(request.content)))
        return httpx.Response(200, json=REF)

    client = client_of(handler)
    client.create_deployment("e", "v1", "models:/m/1", options={"workers": 2})
    client.set_traffic("e", {"v1": 100}, generation=3, shield=True)
    created, moved = sent
    assert created == (
        "POST",
        "/endpoints/e/deployments",
        {"name": "v1", "model_uri": "models:/m/1", "timeout": 180, "options": {"workers": 2}},
    )
    assert (moved[2]["shield"], moved[2]["sticky"]) == (True, None)


def test_workspace_without_a_host_names_the_command(tmp_path):
    with pytest.raises(ServingUnavailableError, match="airflow-mlops serve --workspace"):
        ServingClient.from_workspace(str(tmp_path))


@pytest.mark.parametrize("name", ["../../other", "..", "v1?x=1", "", "a/b", None])
def test_name_that_would_lead_to_another_call_is_not_sent(name):
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    client = client_of(handler)
    with pytest.raises(ParameterError, match="deployment"):
        client.delete_deployment("e", name)
    with pytest.raises(ParameterError, match="endpoint"):
        client.delete_endpoint(name)


def test_client_closes_its_connections():
    with client_of(lambda request: httpx.Response(200, json=[])) as client:
        assert client.list_endpoints() == []
    assert client._client.is_closed


def test_pairs_are_asked_for_at_a_tolerance():
    client = client_of(lambda request: httpx.Response(200, json={"v2": dict(request.url.params)}))
    assert client.pairs("e", tolerance=0.25) == {"v2": {"tolerance": "0.25"}}


def test_feedback_goes_in_requests_of_bounded_size(monkeypatch):
    monkeypatch.setattr(module, "_FEEDBACK_AT_ONCE", 2)
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent = json.loads(request.content)["feedback"]
        seen.append((request.url.path, len(sent)))
        return httpx.Response(200, json={"feedback_ids": [each["request_id"] for each in sent]})

    client = client_of(handler)
    several = [{"request_id": str(i), "label": 1} for i in range(5)]
    assert client.send_feedback("e", several) == ["0", "1", "2", "3", "4"]
    assert client.send_feedback("e", several[0]) == ["0"]
    assert seen == [("/endpoints/e/feedback", n) for n in (2, 2, 1, 1)]
