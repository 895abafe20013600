"""The DAG in docs/tuning.md runs as it stands there: mapped workers, then one that trains."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tuning.md"


def test_the_workers_of_the_page_share_the_trials(airflow_db, environment, tmp_path):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    rng = np.random.default_rng(0)
    orders = pd.DataFrame({"weight": rng.normal(size=200), "distance": rng.normal(size=200)})
    orders["amount"] = orders["weight"] + rng.normal(size=200)
    (tmp_path / "orders").mkdir()
    orders.to_parquet(tmp_path / "orders" / "week.parquet")
    folder = tmp_path / "dags"
    folder.mkdir()
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    (folder / "tuned.py").write_text(code.replace("/data", str(tmp_path)))

    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(str(folder), bundle_name="dags-folder", bundle_path=folder)
    assert bag.import_errors == {}
    sync_bag_to_db(bag, "dags-folder", None)
    run = bag.get_dag("tuned").test()

    states = {(ti.task_id, ti.map_index): ti.state for ti in run.get_task_instances()}
    tasks = [("snapshot", -1), ("trials", 0), ("trials", 1), ("tune", -1)]
    assert states == dict.fromkeys(tasks, "success")
    handed = {
        ti.map_index: ti.xcom_pull("trials", map_indexes=ti.map_index)
        for ti in run.get_task_instances()
        if ti.task_id == "trials"
    }
    assert sum(study["ran"] for study in handed.values()) == 6
    assert handed[1]["finished"] == 6
