"""A DAG run for real, and what OpenLineage's own file transport wrote of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.servers import need

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "tests" / "lineage_dags"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lineage")


@pytest.fixture(scope="module")
def events(folder):
    """The last COMPLETE event of each task."""
    need("airflow.providers.openlineage", "pip install airflow-provider-mlops[openlineage]")
    rows = folder / "rows.parquet"
    pd.DataFrame({"n": range(20), "large": [n > 9 for n in range(20)]}).to_parquet(rows)
    bundle = {
        "name": "lineage",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(DAGS)},
    }
    transport = {"type": "file", "log_file_path": str(folder / "events.jsonl"), "append": True}
    env = os.environ | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__MLOPS__WORKSPACE": str(folder / "workspace"),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "LINEAGE_ROWS": str(rows),
    }
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    for command in (migrate, [sys.executable, str(DAGS / "lineage.py")]):
        subprocess.run(command, check=True, env=env, cwd=ROOT)
    told = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
    return {each["job"]["name"]: each for each in told if each["eventType"] == "COMPLETE"}


def read(event, side):
    """Return one side of an event through the classes of OpenLineage's client, by name."""
    from openlineage.client.event_v2 import InputDataset, OutputDataset

    kind = {"inputs": InputDataset, "outputs": OutputDataset}[side]
    return {each["name"]: kind(**each) for each in event[side]}


def test_a_snapshot_gives_a_dataset_with_schema_version_and_rows(events, folder):
    written = read(events["lineage.snapshot"], "outputs")["numbers"]
    assert written.namespace == f"file://{folder}/workspace"
    columns = {each["name"]: each["type"] for each in written.facets["schema"]["fields"]}
    assert columns == {"n": "int64", "large": "bool"}
    assert written.facets["dataSource"]["uri"].endswith(
        f"{written.facets['version']['datasetVersion']}.parquet"
    )
    assert written.outputFacets["outputStatistics"]["rowCount"] == 20


def test_a_validation_gives_assertions_about_its_dataset(events):
    from openlineage.client.facet_v2 import data_quality_assertions_dataset

    assertion = data_quality_assertions_dataset.Assertion
    checked = read(events["lineage.validate"], "inputs")["numbers"]
    told = checked.inputFacets["dataQualityAssertions"]["assertions"]
    suite, failed = (assertion(**each) for each in told)
    assert (suite.assertion, suite.success) == ("few_rows", False)
    assert (failed.column, failed.success, failed.severity) == ("n", False, "warn")


def test_a_model_comes_from_its_dataset_and_goes_to_the_registry(events):
    training, registration = events["lineage.train"], events["lineage.register"]
    assert list(read(training, "inputs")) == ["numbers"]
    (model,) = read(training, "outputs").values()
    assert model.name.startswith("models:/m-")
    assert model.facets["datasetType"]["datasetType"] == "MODEL"
    assert list(read(registration, "inputs")) == [model.name]
    registered = read(registration, "outputs")["models:/large_numbers"]
    assert registered.namespace == model.namespace
    assert registered.facets["version"]["datasetVersion"] == "1"


def test_the_last_task_reads_what_the_first_one_wrote(events):
    written = read(events["lineage.snapshot"], "outputs")["numbers"]
    used = read(events["lineage.train"], "inputs")["numbers"]
    assert (used.namespace, used.facets["version"]) == (
        written.namespace,
        written.facets["version"],
    )
