"""MLflow, the serving host and Airflow on this machine, for demonstrations and tests.

``with LocalStack(home, dags) as stack:`` starts the three on free loopback ports, waits until
they answer, and takes them down again with everything they started, however the block ends.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

from airflow_mlops_provider.exceptions import StackUnavailableError
from airflow_mlops_provider.stack.client import AirflowClient
from airflow_mlops_provider.stack.service import (
    Service,
    free_ports,
    stop_all,
    wait_until_healthy,
)

START_SECONDS = 300.0
"""How long the slowest part may take to come up (half a minute is usual)."""
_LOCK_SECONDS = 40.0
USER = "admin"
_LOCK = "lock"

_QUIET = {
    "DO_NOT_TRACK": "1",
    "FEAST_USAGE": "False",
    "GX_ANALYTICS_ENABLED": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_WAIT_POLICY": "PASSIVE",  # idle threads of one fit must not spin away the next one's core
}


class LocalStack:
    """The three services, as a context manager.

    Args:
        home: Folder for everything that is kept: databases, logs and the workspace.
        dags_folder: Folder of the DAG files; modules beside them can be imported.
        say: Called with a line of text for each thing that happens.
        fresh: Begin with an empty home, whatever an earlier stack left in it.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        say: Callable[[str], None] = print,
        *,
        fresh: bool = False,
    ) -> None:
        self.home = home.resolve()
        self.dags_folder = dags_folder.resolve()
        self.say = say
        self.fresh = fresh
        self.workspace = self.home / "workspace"
        self.logs = self.home / "logs"
        ports = free_ports(6)
        mlflow, router, admin, self._airflow_port, *self._log_ports = ports
        self.mlflow_url = f"http://127.0.0.1:{mlflow}"
        self.serving_url = f"http://127.0.0.1:{router}"
        self.admin_url = f"http://127.0.0.1:{admin}"
        self.airflow_url = f"http://127.0.0.1:{self._airflow_port}"
        self.services: list[Service] = []
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        """Start all services and wait for them.

        Raises:
            StackUnavailableError: a service did not come up, or ``home`` is in use.
        """
        self._lock = _lock(self.home / _LOCK, self.say)
        try:
            if self.fresh:
                _empty(self.home)
            self.workspace.mkdir(parents=True, exist_ok=True)
            self.services = [self._mlflow(), self._serving(), self._airflow()]
            for service in self.services:
                self.say(f"{service.name} is starting, log in {service.log}")
                service.start(keep_open=[self._lock.fileno()])
            wait_until_healthy(self.services, START_SECONDS, self.say)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything that was started and wait until it is gone."""
        stop_all(self.services)
        if self._lock is not None:
            self._lock.close()

    @property
    def password(self) -> str:
        """What :data:`USER` logs in to Airflow with."""
        passwords = self.home / "airflow" / "simple_auth_manager_passwords.json.generated"
        return str(json.loads(passwords.read_text())[USER])

    def client(self) -> AirflowClient:
        """Return a client of Airflow's API, logged in."""
        return AirflowClient(self.airflow_url, USER, self.password)

    def _mlflow(self) -> Service:
        folder = self.workspace / "mlflow"
        return mlflow_server(folder, self.mlflow_url, self.logs / "mlflow.log")

    def _serving(self) -> Service:
        log = self.logs / "serving.log"
        return serving_host(self.workspace, self.serving_url, self.admin_url, self.mlflow_url, log)

    def _airflow(self) -> Service:
        return Service(
            "Airflow",
            [sys.executable, "-m", "airflow", "standalone"],
            {**base_env(), **self.airflow_env()},
            self.logs / "airflow.log",
            f"{self.airflow_url}/api/v2/monitor/health",
            _all_parts_healthy,
        )

    def airflow_env(self) -> dict[str, str]:
        """Return the configuration of this Airflow as environment variables."""
        url = self.airflow_url
        worker_log, trigger_log = map(str, self._log_ports)
        return {
            "AIRFLOW_HOME": str(self.home / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._airflow_port),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": worker_log,
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": trigger_log,
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__MLOPS__WORKSPACE": str(self.workspace),
            "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps(
                {"conn_type": "mlflow", "host": self.mlflow_url}
            ),
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(self.dags_folder), os.environ.get("PYTHONPATH")])
            ),
            **_secrets(self.home / "secrets.json"),
        }


def mlflow_server(folder: Path, url: str, log: Path) -> Service:
    """Return an MLflow server that keeps its database and artifacts in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--host", "127.0.0.1", "--port", url.rpartition(":")[2]),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    return Service("MLflow", command, base_env(), log, f"{url}/health")


def serving_host(
    workspace: Path, url: str, admin_url: str, tracking_uri: str, log: Path
) -> Service:
    """Return a serving host whose router listens at ``url`` and admin API at ``admin_url``."""
    command = [
        *(sys.executable, "-m", "airflow_mlops_provider.cli", "serve"),
        *("--workspace", str(workspace), "--tracking-uri", tracking_uri),
        *("--port", url.rpartition(":")[2], "--admin-port", admin_url.rpartition(":")[2]),
    ]
    return Service("The serving host", command, base_env(), log, admin_url, _asks_for_token)


def base_env() -> dict[str, str]:
    """Return our environment without Airflow settings, with our own programs found first.

    Airflow starts a process for each task, so compiled modules are worth having.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    programs = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, **_QUIET, "PATH": programs, "PYTHONUNBUFFERED": "1"}


def _asks_for_token(response: httpx.Response) -> bool:
    return response.status_code == httpx.codes.UNAUTHORIZED


def _all_parts_healthy(response: httpx.Response) -> bool:
    parts = response.json()
    needed = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    return all(parts[part]["status"] == "healthy" for part in needed)


def _secrets(file: Path) -> dict[str, str]:
    """Return this Airflow's keys, made once; only their owner can read the file."""
    if not file.exists():
        values = {
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        }
        temporary = file.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(values))
        temporary.rename(file)
    return dict(json.loads(file.read_text()))


def _empty(home: Path) -> None:
    for entry in home.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()


def _lock(file: Path, say: Callable[[str], None]) -> IO[str]:
    """Take the home for ourselves; what an interrupted stack left is given time to end."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.open("w")
    deadline = time.monotonic() + _LOCK_SECONDS
    told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if not told:
                say(f"Waiting for another stack to leave {file.parent}")
                told = True
        if time.monotonic() > deadline:
            lock.close()
            raise StackUnavailableError(
                f"Another stack runs in {file.parent}. Stop it, or choose another home."
            )
        time.sleep(0.5)
