from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_mlops_provider.records import Metric
from airflow_mlops_provider.steps.find_runs import find_run
from airflow_mlops_provider.steps.track import (
    experiment_id,
    finish_pipeline_run,
    start_pipeline_run,
    task_run,
)
from tests.training import train


@pytest.fixture
def pipeline(request):
    return {"airflow.dag_id": "a_dag", "airflow.run_id": f"{request.node.name}'s"}


def start(client, experiment, pipeline):
    return start_pipeline_run(client, experiment, pipeline, name="r", extra_tags={"git": "abc"})


def task(number: int) -> dict[str, str]:
    return {"airflow.task_id": "train", "airflow.try_number": str(number)}


def test_an_experiment_is_made_once(client):
    first = experiment_id(client, "made once", None)
    assert experiment_id(client, "made once", None) == first


def test_a_retried_start_finds_its_run(client, experiment, pipeline):
    first = start(client, experiment, pipeline)
    assert start(client, experiment, pipeline) == first
    assert client.get_run(first).data.tags["git"] == "abc"


def test_a_task_run_is_nested_in_its_pipeline(client, experiment, pipeline):
    parent = start(client, experiment, pipeline)
    with task_run(client, experiment, pipeline, task(1), "train") as run:
        run.log_record(Metric(value=1.0, low=None, high=None, n=3))
        run.log_metrics({"auc": 0.5})
    found = client.get_run(run.run_id)
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert found.data.metrics == {"auc": 0.5}
    assert found.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(run.run_id, "records")] == [
        "records/Metric.json"
    ]


def test_each_attempt_has_a_run_and_a_resumed_one_keeps_it(client, experiment, pipeline):
    ids = []
    for attempt in (1, 1, 2):
        with task_run(client, experiment, pipeline, task(attempt), "train") as run:
            ids.append(run.run_id)
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_ends_as_its_task_did(client, experiment, pipeline, error, status):
    def work():
        with task_run(client, experiment, pipeline, task(1), "train"):
            raise error

    with pytest.raises(error):
        work()
    found = find_run(client, experiment, {**pipeline, **task(1)})
    assert found.info.status == status


def test_finishing_kills_what_was_left_open(client, experiment, pipeline):
    parent = start(client, experiment, pipeline)
    killed = task_run(client, experiment, pipeline, task(1), "train")
    abandoned = killed.__enter__()
    assert finish_pipeline_run(client, experiment, pipeline, "FAILED") == (parent, 1)
    assert client.get_run(abandoned.run_id).info.status == "KILLED"
    assert client.get_run(parent).info.status == "FAILED"


def test_finishing_what_never_started_is_no_error(client, experiment, pipeline):
    assert finish_pipeline_run(client, experiment, pipeline, "FINISHED") == (None, 0)


def test_from_a_models_run_one_finds_the_snapshot_and_its_source(
    client, experiment, pipeline, dataset
):
    # MLflow keeps a dataset of one name and digest once an experiment, and other tests log it too
    dataset = replace(dataset, name="lineage")
    with task_run(client, experiment, pipeline, {"airflow.task_id": "snapshot"}, "s") as snapshot:
        snapshot.log_dataset(dataset, "snapshot")
        snapshot.log_record(dataset)
    with task_run(client, experiment, pipeline, task(1), "train") as training:
        model = train(
            dataset,
            "sklearn.linear_model.LogisticRegression",
            run=training,
            features=["hour"],
            target="late",
        )

    logged = client.get_logged_model(model.model_id)
    (used,) = client.get_run(logged.source_run_id).inputs.dataset_inputs
    assert used.dataset.digest == dataset.logical_hash[:36]
    query = f"dataset.digest = '{used.dataset.digest}' and dataset.context = 'snapshot'"
    (found,) = client.search_runs([experiment], query)
    assert found.info.run_id == snapshot.run_id
    (taken,) = found.inputs.dataset_inputs
    tags = {tag.key: tag.value for tag in taken.tags}
    assert (tags["source"], tags["sha256"]) == (dataset.source, dataset.file_hash)
    assert json.loads(taken.dataset.source)["uri"] == dataset.uri


@pytest.mark.parametrize(
    ("uri", "kind"), [("/w/a.parquet", "local"), ("s3://b/a", "s3"), ("file:///w/a", "local")]
)
def test_mlflow_is_told_where_a_dataset_lies_and_its_types(run, client, dataset, uri, kind):
    run.log_dataset(replace(dataset, uri=uri, logical_hash=kind * 20), "training")
    (logged,) = client.get_run(run.run_id).inputs.dataset_inputs
    assert logged.dataset.source_type == kind
    schema = json.loads(logged.dataset.schema)["mlflow_colspec"]
    types = {each["name"]: each["type"] for each in schema}
    assert types == {"time": "datetime", "hour": "double", "origin": "string", "late": "double"}
