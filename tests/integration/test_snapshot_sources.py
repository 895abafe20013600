"""Snapshots of a real PostgreSQL server, and of real Delta and Iceberg tables."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from unittest.mock import MagicMock

import pyarrow as pa
import pytest
import sqlalchemy as sa
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.hooks.sql import stream_query
from airflow_mlops_provider.operators.snapshot import SnapshotDatasetOperator
from airflow_mlops_provider.records import DatasetRef
from airflow_mlops_provider.steps.snapshot import read_table, snapshot_table
from tests.servers import need

CONN = "warehouse"
ROWS = 1_000


@pytest.fixture
def engine(postgres: str, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN.upper()}", postgres)
    return sa.create_engine(postgres.replace("postgresql:", "postgresql+psycopg2:"))


@pytest.fixture
def flights(engine: sa.Engine) -> str:
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS flights")
        connection.exec_driver_sql(
            "CREATE TABLE flights AS SELECT n, 'N' || n AS tail, n / 2.0 AS delay, "
            "timestamptz '2013-01-01 00:00Z' + n * interval '1 hour' AS at, "
            "CASE WHEN n > 500 THEN n::float8 END AS late FROM generate_series(1, 1000) n"
        )
    return "flights"


def taken(workspace: str, **arguments: object) -> DatasetRef:
    operator = SnapshotDatasetOperator(
        task_id="t", name="d", experiment_name="e", workspace=workspace, **arguments
    )
    ti = MagicMock(dag_id="a_dag", run_id="a_run", task_id="t", map_index=-1, try_number=1)
    return DatasetRef.from_xcom(operator.execute({"ti": ti, "outlet_events": MagicMock()}))


def test_a_query_is_kept_with_its_types_and_bound_parameters(workspace: str, flights: str) -> None:
    ref = taken(
        workspace,
        sql="SELECT * FROM flights WHERE n <= :most AND tail <> :odd ORDER BY n",
        conn_id=CONN,
        parameters={"most": 700, "odd": "'; DROP TABLE flights; --"},
    )
    assert ref.n_rows == 700
    assert ref.columns["at"] == "timestamp[us, tz=UTC]"
    assert ref.columns["late"] == "double"
    assert ref.source.startswith("warehouse: SELECT * FROM flights")
    first = read_table(ref).slice(0, 1).to_pylist()[0]
    assert first == {
        "n": 1,
        "tail": "N1",
        "delay": Decimal("0.5"),
        "at": dt.datetime(2013, 1, 1, 1, tzinfo=dt.UTC),
        "late": None,
    }


def test_rows_are_fetched_only_as_they_are_asked_for(engine: sa.Engine, flights: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SEQUENCE IF NOT EXISTS fetched")
        connection.exec_driver_sql("ALTER SEQUENCE fetched RESTART")
    chunks = stream_query(CONN, "SELECT nextval('fetched') AS n FROM flights", chunk_rows=100)
    assert next(chunks).num_rows == 100
    with engine.connect() as connection:
        fetched = connection.exec_driver_sql("SELECT last_value FROM fetched").scalar_one()
        cursors = connection.exec_driver_sql(
            "SELECT query FROM pg_stat_activity WHERE query LIKE 'FETCH%%'"
        ).all()
    assert fetched <= 300
    assert cursors
    assert sum(chunk.num_rows for chunk in chunks) == ROWS - 100


@pytest.mark.parametrize(
    ("sql", "error", "said"),
    [
        ("SELEKT 1", DataError, "refuses the query: .*SELEKT"),
        ("SELECT * FROM nowhere", DataError, "refuses the query: .*nowhere"),
        ("SELECT 1 / (n - 1) FROM flights", DataError, "division by zero"),
        ("SELECT n, n FROM flights", DataError, r"several columns named \['n'\]"),
        ("SELECT :missing", ParameterError, "missing"),
        ("SELECT 1 AS n WHERE false", AirflowFailException, "No rows in warehouse"),
        ("SELECT ARRAY[1, 2] AS pairs", AirflowFailException, "'pairs'.* nested"),
    ],
)
def test_a_query_that_cannot_work_is_told_for_good(
    workspace: str, flights: str, sql: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(AirflowFailException, match=said) as failed:
        taken(workspace, sql=sql, conn_id=CONN)
    assert error is AirflowFailException or isinstance(failed.value.__cause__, error)
    assert not list(Path(workspace).rglob("*.parquet"))


def test_a_database_that_does_not_answer_is_tried_again(
    workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GONE", "postgresql://postgres@127.0.0.1:1/postgres")
    with pytest.raises(sa.exc.OperationalError):
        taken(workspace, sql="SELECT 1", conn_id="gone")


def test_a_connection_lost_while_streaming_is_tried_again(engine: sa.Engine, flights: str) -> None:
    chunks = stream_query(CONN, "SELECT n FROM flights", chunk_rows=10)
    next(chunks)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND query LIKE 'FETCH%%'"
        )
    with pytest.raises(sa.exc.OperationalError):
        list(chunks)


def lake_table(rows: list[int]) -> pa.Table:
    return pa.table({"n": rows, "word": [f"w{n}" for n in rows]})


@pytest.fixture
def delta(tmp_path: Path) -> str:
    need("deltalake", "pip install deltalake")
    import deltalake

    for rows in ([1, 2], [3], [4]):
        deltalake.write_deltalake(tmp_path / "delta", lake_table(rows), mode="append")
    return str(tmp_path / "delta")


def test_a_delta_table_is_kept_as_it_was_at_a_version(workspace: str, delta: str) -> None:
    ref = taken(workspace, source=delta, table_format="delta", version="1", columns=["n"])
    assert sorted(read_table(ref)["n"].to_pylist()) == [1, 2, 3]
    assert ref.source == f"{delta}@v1"
    newest = taken(workspace, source=delta, table_format="delta", version="2099-01-01T00:00:00Z")
    assert (newest.n_rows, newest.source) == (4, f"{delta}@v2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"version": "99"}, "at version 99"),
        ({"version": "soon"}, "at version soon"),
        ({"source": "/nowhere/at/all"}, "Cannot open the Delta table /nowhere/at/all"),
        ({"columns": ["m"]}, r"no column \['m'\]"),
    ],
)
def test_what_a_delta_table_lacks_is_named(
    workspace: str, delta: str, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        taken(workspace, **{"source": delta, "table_format": "delta", **arguments})


def test_an_iceberg_table_is_kept_as_it_was_at_a_snapshot(workspace: str, tmp_path: Path) -> None:
    need("pyiceberg", "pip install 'pyiceberg[sql-sqlite]'")
    import pyiceberg.catalog as catalogs

    options = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/c.db",
        "warehouse": f"file://{tmp_path}",
    }
    catalog = catalogs.load_catalog("default", **options)
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", schema=lake_table([1]).schema)
    table.append(lake_table([1, 2]))
    table.append(lake_table([3]))
    first = table.snapshots()[0].snapshot_id

    def snapshot(**arguments: object) -> DatasetRef:
        where = {"source": "ns.t", "table_format": "iceberg", "table_options": options}
        return snapshot_table(**{**where, "name": "d", "workspace": workspace, **arguments})

    ref = snapshot(version=first)
    assert sorted(read_table(ref)["n"].to_pylist()) == [1, 2]
    assert ref.source == f"ns.t@snapshot-{first}"
    assert snapshot(columns=["word"]).n_rows == 3
    with pytest.raises(DataError, match=r"Cannot open the Iceberg table ns.t at version 5"):
        snapshot(version=5)
    with pytest.raises(DataError, match=r"ns\.none"):
        snapshot(source="ns.none")
