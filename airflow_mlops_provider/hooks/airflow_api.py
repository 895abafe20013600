"""The API of an Airflow, this one or another: a Connection in, a client out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from airflow_mlops_provider.exceptions import MlopsError, ParameterError

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.pipeline_cd.api import AirflowApi


class AirflowApiHook(BaseHook):
    """Client of the Airflow that ``airflow_conn_id`` names.

    A Connection of type ``airflow_api``: its host is the URL of the API server (or a bare host
    with a port), and either login and password, or the extra ``token``, are what it lets in.
    """

    conn_name_attr = "airflow_conn_id"
    default_conn_name = "airflow_api_default"
    conn_type = "airflow_api"
    hook_name = "Airflow API"

    def __init__(self, airflow_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.airflow_conn_id = airflow_conn_id

    def get_conn(self) -> AirflowApi:
        """Return a client, which logs in when it is first asked something.

        Raises:
            ParameterError: the Connection has no host, or nothing to log in with.
        """
        from airflow_mlops_provider.steps.pipeline_cd.api import AirflowApi

        connection = self.get_connection(self.airflow_conn_id)
        caller = f"the Connection {self.airflow_conn_id!r}"
        if not connection.host:
            raise ParameterError.of("host", caller, "the URL of the API server", connection.host)
        token = connection.extra_dejson.get("token") or ""
        if not token and not connection.login:
            raise ParameterError.of("login", caller, "a user, or there is an extra `token`", None)
        scheme = "" if "://" in connection.host else "http://"
        port = f":{connection.port}" if connection.port else ""
        return AirflowApi(
            f"{scheme}{connection.host}{port}",
            connection.login or "",
            connection.password or "",
            token,
        )

    def test_connection(self) -> tuple[bool, str]:
        """Log in and ask for something, as the Connections page does."""
        try:
            with self.get_conn() as api:
                api.dag("any")
        except MlopsError as error:
            return False, str(error)
        return True, f"Airflow answers at {api.url}"
