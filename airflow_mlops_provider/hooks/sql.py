"""Databases: a Connection in, rows or a URL out."""

from __future__ import annotations

from airflow.sdk import BaseHook

from airflow_mlops_provider.exceptions import ParameterError


def database_url(conn_id: str) -> str:
    """Return the SQLAlchemy URL of a Connection, password and all.

    Raises:
        ParameterError: it is not the Connection of a database.
    """
    hook = BaseHook.get_connection(conn_id).get_hook()
    try:
        url = hook.sqlalchemy_url
    except (AttributeError, NotImplementedError) as error:
        raise ParameterError(
            f"Expected the Connection of a database that has a SQLAlchemy URL, got {conn_id!r}, "
            f"whose hook is {type(hook).__name__}. Name another Connection."
        ) from error
    return str(url.render_as_string(hide_password=False))
