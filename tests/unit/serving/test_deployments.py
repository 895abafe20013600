from __future__ import annotations

import json

import pytest

from airflow_mlops_provider.exceptions import ParameterError, RecordError
from airflow_mlops_provider.records import EndpointRef
from airflow_mlops_provider.serving import deployments, scorer

REF = EndpointRef(
    endpoint="e",
    url="http://router/endpoints/e",
    deployments={"v1": "models:/m/1"},
    traffic={"v1": 100},
    mirror_traffic={},
    generation=4,
)


class FakeClient:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told = []

    def __getattr__(self, call):
        def answer(*given, **named):
            self.told.append((call, given, named))
            return REF

        return answer


@pytest.fixture
def client(monkeypatch):
    fake = FakeClient()
    monkeypatch.setattr(deployments, "_client", lambda target: fake)
    return fake


@pytest.fixture
def target(client):
    return deployments.MlopsLocalClient("mlops-local:/workspace")


def test_options_and_timeout_come_from_the_config(target, client):
    target.create_deployment(
        "v1", "models:/m/1", config={"timeout": "9", "workers": 2}, endpoint="e"
    )
    call, given, named = client.told[-1]
    assert (call, given) == ("create_deployment", ("e", "v1", "models:/m/1"))
    assert named == {"timeout": 9.0, "options": {"workers": 2}}


def test_shield_is_set_with_the_traffic(target, client):
    target.update_endpoint("e", {"shield": True})
    assert client.told[-1][2] == {"traffic": {"v1": 100}, "generation": 4, "shield": True}
    with pytest.raises(ParameterError, match="shield and generation"):
        target.update_endpoint("e", {"shields": True})


def test_model_served_in_the_foreground_has_its_options(monkeypatch):
    seen = []
    monkeypatch.setattr(scorer, "main", seen.append)
    deployments.run_local("mlops-local", "v1", "models:/m/1", config={"port": 5, "native": False})
    ((*_, port, options),) = seen
    assert port == "--port=5"
    assert json.loads(options.partition("=")[2])["native"] is False
    with pytest.raises(RecordError, match="nativ"):
        deployments.run_local("mlops-local", "v1", "models:/m/1", config={"nativ": False})
