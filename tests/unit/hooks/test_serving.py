from __future__ import annotations

import json

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops_provider.exceptions import ParameterError, ServingUnavailableError
from airflow_mlops_provider.hooks import serving
from airflow_mlops_provider.hooks.serving import ServingHook


def use(monkeypatch, connection: Connection | None) -> None:
    def get_connection(conn_id: str) -> Connection:
        if connection is None:
            raise AirflowNotFoundException(conn_id)
        return connection

    monkeypatch.setattr(ServingHook, "get_connection", staticmethod(get_connection))


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("http://serving:8600", None, "http://serving:8600"),
        ("https://serving", 443, "https://serving:443"),
        ("serving", None, "http://serving:8600"),
        ("serving", 9000, "http://serving:9000"),
        (None, None, "http://127.0.0.1:8600"),
    ],
)
def test_connection_becomes_the_admin_url(monkeypatch, host, port, url):
    extra = json.dumps({"token": "secret"})
    connection = Connection(
        conn_id="c", conn_type="mlops_serving", host=host, port=port, extra=extra
    )
    use(monkeypatch, connection)
    client = ServingHook("c").get_conn()
    assert client.admin_url == url
    assert client._headers == {"authorization": "Bearer secret"}


def test_without_a_connection_the_workspace_knows_the_host(monkeypatch, tmp_path):
    use(monkeypatch, None)
    monkeypatch.setattr(serving, "workspace_uri", lambda: str(tmp_path))
    with pytest.raises(ServingUnavailableError, match="airflow-mlops serve"):
        ServingHook().get_conn()
    folder = tmp_path / "serving"
    folder.mkdir()
    (folder / "host.json").write_text(json.dumps({"admin_url": "http://127.0.0.1:5"}))
    (folder / "token").write_text("t")
    assert ServingHook().get_conn().admin_url == "http://127.0.0.1:5"


def test_unknown_connection_by_name_is_an_error(monkeypatch):
    use(monkeypatch, None)
    with pytest.raises(AirflowNotFoundException):
        ServingHook("mine").get_conn()


def test_test_connection_reports_instead_of_raising(monkeypatch):
    use(monkeypatch, Connection(conn_id="c", conn_type="mlops_serving", host="127.0.0.1", port=1))
    ok, message = ServingHook("c").test_connection()
    assert not ok
    assert "airflow-mlops serve" in message


def kubernetes(monkeypatch, **extra):
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    words = json.dumps({"kube_config": json.dumps(config), **extra})
    connection = json.dumps({"conn_type": "kubernetes", "extra": words})
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", connection)
    return ServingHook("cluster")


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_a_kubernetes_connection_becomes_kserve(monkeypatch, mode):
    extra = {"mlops_target": "kserve", "mode": mode, "namespace": "models"}
    client = kubernetes(
        monkeypatch, prometheus_url="http://127.0.0.1:2", predictor={"minReplicas": 2}, **extra
    ).get_conn()
    assert client.admin_url == "https://127.0.0.1:1"
    assert (client._mode.name, client._cluster.namespace) == (mode, "models")
    assert client._template == {"minReplicas": 2}
    if mode == "Knative":
        assert client.capabilities() == {"traffic", "observe"}


@pytest.mark.parametrize(
    ("extra", "name"),
    [({}, "mlops_target"), ({"mlops_target": "kserve", "mode": "Serverless"}, "mode")],
)
def test_a_kubernetes_connection_that_says_too_little_is_refused(monkeypatch, extra, name):
    with pytest.raises(ParameterError, match=f"The {name} parameter of the Connection 'cluster'"):
        kubernetes(monkeypatch, **extra).get_conn()


def test_a_target_uri_becomes_a_plain_target(monkeypatch):
    extra = json.dumps({"target_uri": "nowhere:/x"})
    use(monkeypatch, Connection(conn_id="c", conn_type="mlops_serving", extra=extra))
    with pytest.raises(ParameterError, match="nowhere"):
        ServingHook("c").get_conn()
