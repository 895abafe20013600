from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk import Connection
from sqlalchemy.exc import OperationalError

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.hooks.sql import database_url, high_water_mark, stream_query


class SqliteHook(DbApiHook):
    """A database in memory, as a provider would bring it."""

    conn_name_attr = "conn_id"

    def get_sqlalchemy_engine(self, engine_kwargs=None):
        return sa.create_engine("sqlite://", **(engine_kwargs or {}))


@pytest.fixture
def database(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_DB", "sqlite://")
    monkeypatch.setattr(Connection, "get_hook", lambda self: SqliteHook())


NUMBERS = (
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < :most) "
    "SELECT n FROM t"
)


def test_rows_come_in_chunks(database):
    chunks = list(stream_query("db", NUMBERS, {"most": 5}, chunk_rows=2))
    assert [chunk["n"].to_pylist() for chunk in chunks] == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize(
    ("sql", "error", "said"),
    [
        ("SELECT :a", ParameterError, "parameters do not fit .*'a'"),
        ("SELECT 1 AS n, 2 AS n", DataError, r"several columns named \['n'\]"),
        ("SELECT 1 AS n UNION ALL SELECT 'a'", DataError, "Column 'n' of the query on 'db'"),
        ("CREATE TABLE t (n INT)", DataError, "expected a query"),
    ],
)
def test_what_is_no_query_is_told(database, sql, error, said):
    with pytest.raises(error, match=said):
        list(stream_query("db", sql))


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        (None, "Expected conn_id to name a Connection, got 'db'"),
        ("mlflow://", "conn_id parameter .*DbApiHook.*its hook is MlflowHook"),
        ("nothing://", "conn_id parameter .*Unknown hook type"),
    ],
)
def test_a_connection_without_a_database_is_told(monkeypatch, connection, said):
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_DB", connection)
    with pytest.raises(ParameterError, match=said):
        next(stream_query("db", "SELECT 1"))
    with pytest.raises(ParameterError, match=said):
        database_url("db")


def test_a_connection_gives_its_url_with_the_password(monkeypatch):
    connection = {"conn_type": "postgres", "host": "h", "port": 5432, "login": "u"}
    connection |= {"password": "s$c/ret", "schema": "d"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    url = sa.make_url(database_url("warehouse"))
    assert (url.username, url.password, url.host, url.port) == ("u", "s$c/ret", "h", 5432)
    assert (url.get_backend_name(), url.database) == ("postgresql", "d")


@pytest.fixture
def flights(database, tmp_path, monkeypatch):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/flights.db")
    with engine.begin() as connection:
        connection.execute(sa.text('CREATE TABLE "the flights" ("a ""n""" INTEGER)'))
        connection.execute(sa.text('INSERT INTO "the flights" VALUES (1), (5), (5), (NULL)'))
    monkeypatch.setattr(SqliteHook, "get_sqlalchemy_engine", lambda self, _: engine)


@pytest.mark.parametrize(("after", "found"), [(None, (5, 3)), (1, (5, 2)), (5, (None, 0))])
def test_a_high_water_mark_counts_what_lies_above_the_last(flights, after, found):
    assert high_water_mark("db", "the flights", 'a "n"', after=after) == found


@pytest.mark.parametrize(("table", "column"), [("nowhere", "n"), ("the flights", "nothing; --")])
def test_a_high_water_mark_needs_its_table_and_column(database, table, column):
    with pytest.raises(OperationalError):
        high_water_mark("db", table, column)
