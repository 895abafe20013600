"""Any database that Airflow has a ``DbApiHook`` for: a Connection in, rows or a URL out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

from airflow_mlops_provider.exceptions import DataError, ParameterError

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from sqlalchemy import Engine


def stream_query(
    conn_id: str,
    sql: str,
    parameters: Mapping[str, Any] | None = None,
    chunk_rows: int = 50_000,
) -> Iterator[pa.Table]:
    """Yield the rows of a query, ``chunk_rows`` at a time, from a server-side cursor.

    Drivers without such cursors may hold the whole result; those of PostgreSQL and MySQL do not.

    Args:
        conn_id: Connection to the database.
        sql: One query; ``:name`` stands for a parameter, as in ``sqlalchemy.text``.
        parameters: Values of the names; the driver binds them, nothing is pasted.
        chunk_rows: Rows in memory at a time.

    Raises:
        DataError: the database refuses the query, or a column has values of several types.
        ParameterError: the Connection is unknown, or is none of a SQL database.
    """
    from sqlalchemy import text

    from airflow_mlops_provider.steps.tables import table_of_rows

    engine = _engine(conn_id)
    with _sql_errors(conn_id), engine.connect() as connection:
        streaming = connection.execution_options(stream_results=True, max_row_buffer=chunk_rows)
        result = streaming.execute(text(sql), {**(parameters or {})})
        if not result.returns_rows:
            raise DataError(
                f"The SQL for {conn_id!r} gave no result; expected a query. Let it begin with "
                "SELECT or WITH."
            )
        names = list(result.keys())
        where = f"the query on {conn_id!r}"
        for rows in result.partitions(chunk_rows):
            yield table_of_rows(names, rows, where)


def high_water_mark(
    conn_id: str, table: str, column: str, *, schema: str | None = None, after: Any = None
) -> tuple[Any, int]:
    """Return the highest value of a column above ``after``, and how many rows lie there.

    Args:
        conn_id: Connection to the database.
        table: Name of the table; it is quoted, so it may be anything.
        column: Name of the column; likewise.
        schema: Of the table; None for the database's default.
        after: Count only rows above it; None counts all that have a value.

    Raises:
        DataError: there is no such table or column.
        ParameterError: the Connection is unknown, or is none of a SQL database.
    """
    import sqlalchemy as sa

    rows = sa.table(table, schema=schema)
    values: sa.ColumnClause[Any] = sa.column(column)
    query = sa.select(sa.func.max(values), sa.func.count(values)).select_from(rows)
    if after is not None:
        query = query.where(values > after)
    with _sql_errors(conn_id), _engine(conn_id).connect() as connection:
        highest, n_rows = connection.execute(query).one()
    return highest, int(n_rows)


def database_url(conn_id: str) -> str:
    """Return the SQLAlchemy URL of a Connection, password and all.

    Raises:
        ParameterError: the Connection is unknown, or is none of a SQL database.
    """
    try:
        url = _hook(conn_id).sqlalchemy_url
    except NotImplementedError as error:
        raise _no_database(conn_id, str(error)) from error
    return str(url.render_as_string(hide_password=False))


def _engine(conn_id: str) -> Engine:
    from sqlalchemy.pool import NullPool

    try:
        engine: Engine = _hook(conn_id).get_sqlalchemy_engine({"poolclass": NullPool})
    except NotImplementedError as error:
        raise _no_database(conn_id, str(error)) from error
    return engine


def _hook(conn_id: str) -> DbApiHook:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    try:
        hook = BaseHook.get_connection(conn_id).get_hook()
    except AirflowNotFoundException as error:
        raise ParameterError(
            f"Expected conn_id to name a Connection, got {conn_id!r}, which is none. Add it to "
            "Airflow, or correct the name."
        ) from error
    except AirflowException as error:
        raise _no_database(conn_id, str(error)) from error
    if not isinstance(hook, DbApiHook):
        raise _no_database(conn_id, f"its hook is {type(hook).__name__}")
    return hook


def _no_database(conn_id: str, why: str) -> ParameterError:
    return ParameterError(
        f"The conn_id parameter must name a Connection whose hook is a DbApiHook with a "
        f"SQLAlchemy engine. Got {conn_id!r} instead: {why}. Install the provider of the "
        "database, or name another Connection."
    )


@contextmanager
def _sql_errors(conn_id: str) -> Iterator[None]:
    """Word what is wrong with the query; a lost connection passes, so that it is retried."""
    from sqlalchemy import exc

    try:
        yield
    except (exc.ProgrammingError, exc.DataError, exc.NotSupportedError) as error:
        if error.connection_invalidated:
            raise
        raise DataError(
            f"The database of {conn_id!r} refuses the query: {error.orig}. Correct the SQL, or "
            "create what it names."
        ) from error
    except exc.StatementError as error:
        if isinstance(error, exc.DBAPIError):
            raise
        raise ParameterError(
            f"The parameters do not fit the SQL for {conn_id!r}: {error.orig or error}. Give "
            "each :name of it a value."
        ) from error
