"""The DAG of the README runs as it stands there, twice: a first model, and a challenger."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.serving.client import ServingClient

README = Path(__file__).resolve().parents[2] / "README.md"


def code() -> str:
    return re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[1]


def customers(folder: Path) -> None:
    rng = np.random.default_rng(0)
    age, visits, spend = rng.integers(18, 90, 4_000), rng.poisson(3, 4_000), rng.gamma(2, 50, 4_000)
    churned = (age / 30 - visits + rng.normal(size=4_000) > 0).astype(int)
    frame = pd.DataFrame({"age": age, "visits": visits, "spend": spend, "churned": churned})
    folder.mkdir()
    frame.to_parquet(folder / "part-0.parquet")


@pytest.fixture
def dag(airflow_db, environment, tmp_path):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    customers(tmp_path / "customers")
    file = tmp_path / "churn.py"
    file.write_text(code().replace("/data/customers", str(tmp_path / "customers")))
    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(str(tmp_path), bundle_name="dags-folder", bundle_path=tmp_path)
    assert bag.import_errors == {}
    sync_bag_to_db(bag, "dags-folder", None)
    return bag.get_dag("churn")


def test_the_dag_of_the_readme_has_25_lines():
    lines = [line for line in code().splitlines() if line.strip()]
    assert len(lines) <= 25


def test_the_dag_of_the_readme_runs(dag, environment):
    assert dag.test().state == "success"
    client = ServingClient.from_workspace(environment["AIRFLOW__MLOPS__WORKSPACE"])
    assert client.get_state("churn").traffic == {"v1": 100}
    answer = client.predict(
        "churn", {"dataframe_records": [{"age": 40, "visits": 1, "spend": 20.0}]}
    )
    ((stay, leave),) = answer["predictions"]
    assert stay + leave == pytest.approx(1)
    second = dag.test()
    states = {ti.task_id: ti.state for ti in second.get_task_instances()}
    assert states["gate"] == "success"
    assert states["register"] == states["deploy"] == "skipped", (
        "the same data teach no better model"
    )
