"""The serving host: a Connection in, a ``ServingClient`` out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops_provider.hooks.settings import workspace_uri

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_mlops_provider.serving.client import ServingClient

_DEFAULT_ADMIN_PORT = 8600


class ServingHook(BaseHook):
    """Clients of the serving host that ``serving_conn_id`` names.

    The Connection's host is the admin URL (or a bare host with a port), its extra ``token`` the
    bearer token. Without a Connection the hook finds the host of the workspace.
    """

    conn_name_attr = "serving_conn_id"
    default_conn_name = "serving_default"
    conn_type = "mlops_serving"
    hook_name = "MLOps serving host"

    def __init__(self, serving_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.serving_conn_id = serving_conn_id

    def get_conn(self) -> ServingClient:
        """Return a client.

        Raises:
            ServingUnavailableError: there is no Connection, and no host serves the workspace.
        """
        from airflow_mlops_provider.serving.client import ServingClient

        connection = self._connection()
        if connection is None:
            return ServingClient.from_workspace(workspace_uri())
        token = connection.extra_dejson.get("token") or connection.password or ""
        return ServingClient(_admin_url(connection), token)

    def test_connection(self) -> tuple[bool, str]:
        """Ask the host what it can do, as the Connections page does."""
        try:
            with self.get_conn() as client:
                found = ", ".join(sorted(client.capabilities()))
        except Exception as error:  # noqa: BLE001 - the page shows any reason as text
            return False, str(error)
        return True, f"The serving host answers at {client.admin_url} ({found})"

    def _connection(self) -> Connection | None:
        try:
            return self.get_connection(self.serving_conn_id)
        except AirflowNotFoundException:
            if self.serving_conn_id == self.default_conn_name:
                return None
            raise


def _admin_url(connection: Connection) -> str:
    host = connection.host or "127.0.0.1"
    if "://" in host:
        return f"{host}:{connection.port}" if connection.port else host
    return f"http://{host}:{connection.port or _DEFAULT_ADMIN_PORT}"
