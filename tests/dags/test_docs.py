"""The gate in docs/data-gates.md runs as it stands there, to each of its three ends."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data-gates.md"
ORDERS = pd.DataFrame({"amount": [float(n % 50 + 1) for n in range(200)]})
SUITE = {
    "name": "orders",
    "expectations": [
        {
            "type": "expect_column_values_to_be_of_type",
            "kwargs": {"column": "amount", "type_": "float64"},
            "severity": "critical",
        },
        {
            "type": "expect_column_mean_to_be_between",
            "kwargs": {"column": "amount", "min_value": 20, "max_value": 30},
            "severity": "warning",
        },
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gate")


@pytest.fixture(scope="module")
def dag(airflow_db, environment, folder):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    (folder / "dags").mkdir()
    (folder / "orders.yaml").write_text(yaml.safe_dump(SUITE))
    file = folder / "dags" / "gate.py"
    file.write_text(code.replace("/data", str(folder)).replace("/suites", str(folder)))
    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(str(file.parent), bundle_name="dags-folder", bundle_path=file.parent)
    assert bag.import_errors == {}
    sync_bag_to_db(bag, "dags-folder", None)
    return bag.get_dag("gate")


@pytest.mark.parametrize(
    ("orders", "end"),
    [
        (ORDERS, "proceed"),
        (ORDERS * 100, "retrain"),
        (ORDERS.astype(str), "stop"),
    ],
)
def test_the_gate_goes_where_the_page_says(dag, folder, orders, end):
    (folder / "orders").mkdir(exist_ok=True)
    orders.to_parquet(folder / "orders" / "day.parquet")
    run = dag.test()
    states = {ti.task_id: ti.state for ti in run.get_task_instances()}
    ends = {"stop", "retrain", "proceed"}
    assert {task for task in ends if states[task] == "success"} == {end}
    assert {states[task] for task in ends - {end}} == {"skipped"}
