from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.hooks.sql import database_url


def test_a_connection_gives_its_url_with_the_password(monkeypatch):
    connection = {"conn_type": "postgres", "host": "h", "port": 5432, "login": "u"}
    connection |= {"password": "s$c/ret", "schema": "d"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    url = sa.make_url(database_url("warehouse"))
    assert (url.username, url.password, url.host, url.port) == ("u", "s$c/ret", "h", 5432)
    assert (url.get_backend_name(), url.database) == ("postgresql", "d")


def test_a_connection_to_no_database_is_named(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_TRACKING", '{"conn_type": "mlflow", "host": "http://h"}')
    with pytest.raises(ParameterError, match="'tracking', whose hook is MlflowHook"):
        database_url("tracking")
