"""MLflow: a Connection in, an ``MlflowClient`` out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops_provider.hooks.mlflow_auth import set_authorization
from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.workspace import join

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from mlflow import MlflowClient

_CREDENTIALS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


class MlflowHook(BaseHook):
    """Clients of the tracking server and registry that ``mlflow_conn_id`` names.

    The Connection's host is the tracking URI (``https://mlflow.example.com`` or a bare host
    with a port); login and password become basic authentication, the extra ``token`` a bearer
    token. Without a Connection the hook uses a SQLite store in the workspace.
    """

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "mlflow"
    hook_name = "MLflow"

    def __init__(self, mlflow_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.mlflow_conn_id = mlflow_conn_id

    @property
    def tracking_uri(self) -> str:
        """The URI that MLflow itself understands."""
        connection = self._connection()
        return _tracking_uri(connection) if connection else embedded_tracking_uri()

    @property
    def artifact_root(self) -> str | None:
        """Where new experiments keep artifacts; None leaves it to the server."""
        return None if self._connection() else join(workspace_uri(), "mlflow", "artifacts")

    @property
    def environment(self) -> dict[str, str]:
        """Variables that let MLflow in another process use the same server as the same user."""
        token, login, password = _credentials(self._connection())
        variables = {"MLFLOW_TRACKING_URI": self.tracking_uri}
        variables["MLFLOW_REGISTRY_URI"] = self.tracking_uri
        if token or login:  # all three: what the process inherits must not be mixed with these
            basic = ("", "") if token else (login or "", password or "")
            variables |= zip(_CREDENTIALS, (token or "", *basic), strict=True)
        return variables

    def get_conn(self) -> MlflowClient:
        """Return a client, and make its server the one that MLflow's fluent API uses.

        Raises:
            MlflowUnavailableError: the server does not answer within 10 seconds.
        """
        import mlflow

        from airflow_mlops_provider.steps.health import require_mlflow

        connection = self._connection()
        uri = self.tracking_uri
        require_mlflow(uri)
        set_authorization(*_credentials(connection))
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        return mlflow.MlflowClient(uri, uri)

    def test_connection(self) -> tuple[bool, str]:
        """Ask the server for one experiment, as the Connections page does."""
        try:
            self.get_conn().search_experiments(max_results=1)
        except Exception as error:  # noqa: BLE001 - the page shows any reason as text
            return False, str(error)
        return True, f"MLflow answers at {self.tracking_uri}"

    def _connection(self) -> Connection | None:
        try:
            return self.get_connection(self.mlflow_conn_id)
        except AirflowNotFoundException:
            if self.mlflow_conn_id == self.default_conn_name:
                return None
            raise


def embedded_tracking_uri() -> str:
    """Return the store that is used when no Connection is configured."""
    return f"sqlite:///{join(workspace_uri(), 'mlflow', 'mlflow.db')}"


def _tracking_uri(connection: Connection) -> str:
    host = connection.host or "127.0.0.1"
    base = host if "://" in host else f"http://{host}"
    return f"{base}:{connection.port}" if connection.port else base


def _credentials(connection: Connection | None) -> tuple[str | None, str | None, str | None]:
    if connection is None:
        return None, None, None
    return connection.extra_dejson.get("token"), connection.login, connection.password
