"""The DAG of docs/notebooks-and-dvc.md runs as it stands there, with its notebook."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
import pandas as pd

from tests.notebooks import write_notebook

PAGE = Path(__file__).resolve().parents[2] / "docs" / "notebooks-and-dvc.md"


def test_a_file_of_dvc_goes_into_a_notebook(airflow_db, environment, tmp_path):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from dvc.repo import Repo

    dag_code, parameters, cell = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    repo = tmp_path / "repo"
    (repo / "data").mkdir(parents=True)
    pd.DataFrame({"late": [0.0, 1.0]}).to_parquet(repo / "data" / "flights.parquet")
    Repo.init(str(repo), no_scm=True).close()
    with Repo(str(repo)) as opened:
        opened.add(str(repo / "data" / "flights.parquet"))
    write_notebook(repo / "notebooks" / "study.ipynb", cell, parameters=parameters)
    file = tmp_path / "dags" / "delays.py"
    file.parent.mkdir()
    file.write_text(dag_code.replace("/repo", str(repo)))
    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(str(file.parent), bundle_name="dags-folder", bundle_path=file.parent)
    assert bag.import_errors == {}
    sync_bag_to_db(bag, "dags-folder", None)

    run = bag.get_dag("delays").test()

    assert {ti.state for ti in run.get_task_instances()} == {"success"}
    (study,) = [ti for ti in run.get_task_instances() if ti.task_id == "study"]
    given = study.xcom_pull(task_ids="study")
    assert given["metrics"] == {"late_rate": 0.5}
    assert given["outputs"] == {"columns": ["late"]}
    (used,) = mlflow.MlflowClient().get_run(given["run_id"]).inputs.dataset_inputs
    assert "flights.parquet.dvc@md5:" in {tag.key: tag.value for tag in used.tags}["source"]
