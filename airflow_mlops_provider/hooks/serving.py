"""Serving targets: a Connection in, a client that speaks the traffic protocol out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.hooks.kserve import kserve_client
from airflow_mlops_provider.hooks.settings import workspace_uri

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_mlops_provider.serving.client import ServingClient
    from airflow_mlops_provider.serving.targets.plain import PlainClient

_DEFAULT_ADMIN_PORT = 8600


class ServingHook(BaseHook):
    """Clients of the serving target that ``serving_conn_id`` names.

    A Connection of type ``mlops_serving`` is our serving host: its host is the admin URL (or a bare
    host with a port), its extra ``token`` the bearer token. With the extra ``target_uri`` it is
    that target of ``mlflow.deployments``. One of type ``kubernetes`` with the extra
    ``{"mlops_target": "kserve"}`` is KServe. Without a Connection the hook finds the host of the
    workspace.
    """

    conn_name_attr = "serving_conn_id"
    default_conn_name = "serving_default"
    conn_type = "mlops_serving"
    hook_name = "MLOps serving host"

    def __init__(self, serving_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.serving_conn_id = serving_conn_id

    def get_conn(self) -> ServingClient:
        """Return a client; that of another target refuses what only our host can.

        Raises:
            ServingUnavailableError: there is no Connection, and no host serves the workspace.
            ParameterError: the Connection names no target that is known.
        """
        from airflow_mlops_provider.serving.client import ServingClient

        connection = self._connection()
        if connection is None:
            return ServingClient.from_workspace(workspace_uri())
        extra = connection.extra_dejson
        if connection.conn_type == "kubernetes":
            _require_kserve(self.serving_conn_id, extra.get("mlops_target"))
            return cast("ServingClient", kserve_client(self.serving_conn_id, extra))
        if extra.get("target_uri"):
            return cast("ServingClient", _plain_client(extra))
        token = extra.get("token") or connection.password or ""
        return ServingClient(_admin_url(connection), token)

    def test_connection(self) -> tuple[bool, str]:
        """Ask the target what it can do, as the Connections page does."""
        try:
            with self.get_conn() as client:
                found = ", ".join(sorted(client.capabilities())) or "plain deploys"
        except Exception as error:  # noqa: BLE001 - the page shows any reason as text
            return False, str(error)
        return True, f"The serving target answers at {client.admin_url} ({found})"

    def _connection(self) -> Connection | None:
        try:
            return self.get_connection(self.serving_conn_id)
        except AirflowNotFoundException:
            if self.serving_conn_id == self.default_conn_name:
                return None
            raise


def _require_kserve(conn_id: str, target: object) -> None:
    if target != "kserve":
        raise ParameterError.of("mlops_target", f"the Connection {conn_id!r}", "'kserve'", target)


def _plain_client(extra: dict[str, Any]) -> PlainClient:
    from airflow_mlops_provider.serving.targets.plain import PlainClient

    return PlainClient(extra["target_uri"], flavor=extra.get("flavor"), config=extra.get("config"))


def _admin_url(connection: Connection) -> str:
    host = connection.host or "127.0.0.1"
    if "://" in host:
        return f"{host}:{connection.port}" if connection.port else host
    return f"http://{host}:{connection.port or _DEFAULT_ADMIN_PORT}"
