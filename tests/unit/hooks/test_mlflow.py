from __future__ import annotations

import json

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops_provider.exceptions import MlflowUnavailableError
from airflow_mlops_provider.hooks.mlflow import MlflowHook
from airflow_mlops_provider.hooks.mlflow_auth import ConnectionHeaderProvider, set_authorization


@pytest.fixture
def connect(monkeypatch):
    def configure(**fields):
        value = json.dumps({"conn_type": "mlflow", **fields})
        monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", value)
        return MlflowHook()

    return configure


@pytest.mark.parametrize(
    ("fields", "uri"),
    [
        ({"host": "https://mlflow.example.com"}, "https://mlflow.example.com"),
        ({"host": "mlflow", "port": 5000}, "http://mlflow:5000"),
        ({"host": "http://127.0.0.1", "port": 5001}, "http://127.0.0.1:5001"),
        ({}, "http://127.0.0.1"),
    ],
)
def test_a_connection_becomes_a_tracking_uri(connect, fields, uri):
    hook = connect(**fields)
    assert hook.tracking_uri == uri
    assert hook.artifact_root is None


def test_without_a_connection_the_workspace_holds_the_store(workspace):
    hook = MlflowHook()
    assert hook.tracking_uri == f"sqlite:///{workspace}/mlflow/mlflow.db"
    assert hook.artifact_root == f"{workspace}/mlflow/artifacts"
    assert hook.test_connection() == (True, f"MLflow answers at {hook.tracking_uri}")


def test_a_connection_asked_for_by_name_must_exist():
    with pytest.raises(AirflowNotFoundException, match="elsewhere"):
        _ = MlflowHook("elsewhere").tracking_uri


def test_a_server_that_is_down_is_named_with_its_remedy(connect):
    hook = connect(host="http://127.0.0.1:9")
    with pytest.raises(MlflowUnavailableError, match=r"127\.0\.0\.1:9.*mlflow server"):
        hook.get_conn()
    assert hook.test_connection()[0] is False


@pytest.mark.parametrize(
    ("credentials", "headers"),
    [
        (("secret", None, None), {"Authorization": "Bearer secret"}),
        ((None, "user", "pass"), {"Authorization": "Basic dXNlcjpwYXNz"}),
        ((None, None, None), {}),
    ],
)
def test_credentials_become_a_header(credentials, headers):
    set_authorization(*credentials)
    provider = ConnectionHeaderProvider()
    assert provider.request_headers() == headers
    assert provider.in_context() is bool(headers)
    set_authorization(None, None, None)
    assert not provider.in_context()


@pytest.mark.parametrize(
    ("fields", "credentials"),
    [
        ({}, {}),
        ({"extra": {"token": "t"}}, {"TOKEN": "t", "USERNAME": "", "PASSWORD": ""}),
        ({"login": "u", "password": "p"}, {"TOKEN": "", "USERNAME": "u", "PASSWORD": "p"}),
        ({"login": "u"}, {"TOKEN": "", "USERNAME": "u", "PASSWORD": ""}),
    ],
)
def test_another_process_is_given_server_and_credentials(connect, fields, credentials):
    expected = {f"MLFLOW_TRACKING_{name}": value for name, value in credentials.items()}
    uris = {f"MLFLOW_{name}_URI": "http://mlflow:5000" for name in ("TRACKING", "REGISTRY")}
    assert connect(host="mlflow", port=5000, **fields).environment == uris | expected
