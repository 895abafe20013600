"""A database for ``dag.test()`` and the services that the example DAGs talk to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKSPACE = os.environ["AIRFLOW__MLOPS__WORKSPACE"]
"""The workspace of the session: DAG files ask for it once, whenever they are first parsed."""


@pytest.fixture(scope="session")
def dag_bag(airflow_db: None):
    """The example DAGs, parsed and known to the database."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(str(ROOT / "dags"), bundle_name="dags-folder", bundle_path=ROOT / "dags")
    sync_bag_to_db(bag, "dags-folder", None)
    return bag


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """The tables of Airflow, in the home of these tests."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)


@pytest.fixture(scope="session")
def services(
    mlflow_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """MLflow and the serving host, with the Connections to them; gives the environment."""
    from airflow_mlops_provider.stack.local import serving_host
    from airflow_mlops_provider.stack.service import free_ports, stop_all, wait_until_healthy

    home = tmp_path_factory.mktemp("services")
    router, admin = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    host = serving_host(Path(WORKSPACE), router, admin, mlflow_server, home / "serving.log")
    host.start()
    try:
        wait_until_healthy([host], 60, lambda line: None)
        yield {
            "AIRFLOW__MLOPS__WORKSPACE": WORKSPACE,
            "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps(
                {"conn_type": "mlflow", "host": mlflow_server}
            ),
        }
    finally:
        stop_all([host])


@pytest.fixture(scope="module")
def environment(services: dict[str, str]) -> Iterator[dict[str, str]]:
    """The services' environment, for the DAGs of a whole module."""
    before = dict(os.environ)
    os.environ.update(services)
    yield services
    os.environ.clear()
    os.environ.update(before)
