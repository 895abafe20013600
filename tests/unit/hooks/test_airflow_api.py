from __future__ import annotations

import json

import pytest
from airflow.sdk import Connection

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.hooks.airflow_api import AirflowApiHook


def use(monkeypatch, **fields):
    extra = json.dumps(fields.pop("extra", {}))
    connection = Connection(conn_id="c", conn_type="airflow_api", extra=extra, **fields)
    monkeypatch.setattr(AirflowApiHook, "get_connection", staticmethod(lambda conn_id: connection))
    return AirflowApiHook("c")


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("https://airflow/", None, "https://airflow"),
        ("https://airflow", 443, "https://airflow:443"),
        ("airflow", 8080, "http://airflow:8080"),
    ],
)
def test_connection_becomes_the_url(monkeypatch, host, port, url):
    hook = use(monkeypatch, host=host, port=port, login="ada", password="secret")
    assert hook.get_conn().url == url


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"login": "ada"}, "host"), ({"host": "airflow"}, "login")],
)
def test_a_connection_that_lacks_something_is_refused(monkeypatch, fields, named):
    with pytest.raises(ParameterError, match=f"{named} parameter of the Connection 'c'"):
        use(monkeypatch, **fields).get_conn()


def test_a_token_needs_no_login(monkeypatch):
    assert use(monkeypatch, host="airflow", extra={"token": "t"}).get_conn()


def test_the_connections_page_is_told_why(monkeypatch):
    ok, said = use(monkeypatch, host="http://127.0.0.1", port=9, login="ada").test_connection()
    assert not ok
    assert "did not answer" in said
