"""What docs/labels-and-feedback.md shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from airflow_mlops_provider.serving.client import ServingClient
from tests.prediction_logs import record, write_segment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "labels-and-feedback.md"
ENDPOINT = "labels-doc"


@pytest.fixture(scope="module")
def blocks():
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [block.replace('"flights"', f'"{ENDPOINT}"') for block in found]


@pytest.fixture(scope="module")
def dag(airflow_db, environment, blocks, tmp_path_factory):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    folder = tmp_path_factory.mktemp("labels")
    landed = pd.Timestamp("2013-07-01T06:00:00Z")
    landings = {"flight": ["UA 1", "UA 9"], "late": [1, 0], "landed_at": landed}
    pd.DataFrame({**landings, "loaded_at": landed}).to_parquet(folder / "landings.parquet")
    (folder / "dags").mkdir()
    file = folder / "dags" / "labels.py"
    file.write_text(blocks[0].replace('"/data"', f'"{folder}/landings.parquet"'))
    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(str(file.parent), bundle_name="dags-folder", bundle_path=file.parent)
    assert bag.import_errors == {}
    sync_bag_to_db(bag, "dags-folder", None)
    return bag.get_dag("labels")


def test_labels_are_joined_from_a_table_and_from_clients(dag, environment, blocks):
    workspace = environment["AIRFLOW__MLOPS__WORKSPACE"]
    log = [record(1, entity_id="UA 1"), record(7, entity_id="UA 7"), record(8)]
    write_segment(Path(workspace, "serving", "logs", ENDPOINT), "a", log)
    with ServingClient.from_workspace(workspace) as client:
        client.create_endpoint(ENDPOINT)
    exec(blocks[1].replace("/workspace", workspace), {})  # noqa: S102 - our own page
    run = dag.test()
    assert {ti.state for ti in run.get_task_instances()} == {"success"}
    joined = {ti.task_id: ti.xcom_pull(ti.task_id) for ti in run.get_task_instances()}
    assert joined["from_a_table"]["n_rows"] == 1
    frame = pd.read_parquet(joined["from_clients"]["uri"])
    assert dict(zip(frame["request_id"], frame["label"], strict=True)) == {"r1": 1, "r7": 0}
    assert frame["label_ts"].notna().all()
