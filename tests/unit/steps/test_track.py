from __future__ import annotations

import json
from dataclasses import replace
from threading import Event
from unittest.mock import MagicMock, call

import pytest
from mlflow.exceptions import MlflowException

from airflow_mlops_provider.records import Metric
from airflow_mlops_provider.steps import track
from airflow_mlops_provider.steps.find_runs import ELECTED, find_runs, pipeline_runs
from airflow_mlops_provider.steps.metadata import KIND, PIPELINE
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
    (found,) = find_runs(client, experiment, {**pipeline, **task(1)})
    assert found.info.status == status


def test_the_error_of_a_task_is_raised_whatever_mlflow_does(client, experiment, pipeline, caplog):
    away = MagicMock(wraps=client)
    away.set_terminated.side_effect = MlflowException("no answer")

    def work():
        with task_run(away, experiment, pipeline, task(1), "train"):
            raise ValueError("no rows")

    with pytest.raises(ValueError, match="no rows"):
        work()
    assert "could not be closed as FAILED" in caplog.text


def test_a_server_that_does_not_answer_holds_a_failed_task_up_only_so_long(
    client, experiment, pipeline, monkeypatch, caplog
):
    monkeypatch.setattr(track, "_KILL_SECONDS", 0.05)
    answers = Event()
    slow = MagicMock(wraps=client)
    slow.set_terminated.side_effect = lambda *given: answers.wait(10)
    with task_run(slow, experiment, pipeline, task(1), "train") as run:
        run.kill()
        assert "no answer within 0.05 s" in caplog.text
    answers.set()
    assert slow.set_terminated.call_args_list == [call(run.run_id, "KILLED")]


def test_a_killed_run_stays_killed_if_its_task_goes_on(client, experiment, pipeline):
    with task_run(client, experiment, pipeline, task(1), "train") as run:
        run.kill()
    assert client.get_run(run.run_id).info.status == "KILLED"


def test_the_caller_says_what_an_error_means(client, experiment, pipeline):
    def work(status):
        with task_run(
            client, experiment, pipeline, task(1), "train", status_after=lambda error: status
        ):
            raise KeyError

    for status, found in ((None, "RUNNING"), ("FINISHED", "FINISHED")):
        with pytest.raises(KeyError):
            work(status)
        (run,) = find_runs(client, experiment, {**pipeline, **task(1)})
        assert run.info.status == found


@pytest.mark.parametrize("told", [True, False])
def test_a_new_attempt_closes_the_one_before_and_what_lies_below_it(
    client, experiment, pipeline, told
):
    start(client, experiment, pipeline)
    killed = task_run(client, experiment, pipeline, task(1), "train")
    lost = killed.__enter__()
    nested = {"mlflow.parentRunId": lost.run_id}
    trial = client.create_run(experiment, tags=nested, run_name="trial").info.run_id
    if told:
        lost.kill()
    other = {"airflow.task_id": "other", "airflow.try_number": "1"}
    with (
        task_run(client, experiment, pipeline, other, "other") as alive,
        task_run(client, experiment, pipeline, task(2), "train"),
    ):
        ended = [client.get_run(each).info.status for each in (lost.run_id, trial)]
        assert ended == ["KILLED", "KILLED"]
        assert client.get_run(alive.run_id).info.status == "RUNNING"


def test_a_late_attempt_leaves_the_newer_one_alone(client, experiment, pipeline):
    with (
        task_run(client, experiment, pipeline, task(2), "train") as newer,
        task_run(client, experiment, pipeline, task(1), "train"),
    ):
        assert client.get_run(newer.run_id).info.status == "RUNNING"


def test_a_champion_is_kept_with_the_pipeline(client, experiment, pipeline):
    parent = start(client, experiment, pipeline)
    with task_run(client, experiment, pipeline, task(1), "gate") as run:
        run.log_champion("models:/m-1", {"auc": 0.7})
    found = client.get_run(parent).data
    assert found.metrics == {"champion_auc": 0.7}
    assert json.loads(found.tags["mlops.champion"])["model_uri"] == "models:/m-1"


def rival(client, experiment, pipeline, elected):
    """Create a pipeline run beside the one there is."""
    tags = {**pipeline, KIND: PIPELINE} | ({ELECTED: "true"} if elected else {})
    return client.create_run(experiment, tags=tags, run_name="rival").info.run_id


def test_a_rival_that_was_elected_before_ours_was_there_wins(client, experiment, pipeline):
    made = []

    def create_run(*args, **kwargs):
        made.append(rival(client, experiment, pipeline, elected=True))
        return client.create_run(*args, **kwargs)

    racing = MagicMock(wraps=client)
    racing.create_run.side_effect = create_run
    assert start(racing, experiment, pipeline) == made[0]
    (left,) = pipeline_runs(client, experiment, pipeline)
    assert left.info.run_id == made[0]


def test_a_rival_that_died_undecided_is_outlived(client, experiment, pipeline, monkeypatch):
    monkeypatch.setattr(track, "_POLL_SECONDS", 0.0)
    made = []

    def create_run(*args, **kwargs):
        made.append(rival(client, experiment, pipeline, elected=False))
        return client.create_run(*args, **kwargs)

    racing = MagicMock(wraps=client)
    racing.create_run.side_effect = create_run
    chosen = start(racing, experiment, pipeline)
    assert start(client, experiment, pipeline) == chosen
    assert pipeline_runs(client, experiment, pipeline)[0].info.run_id == chosen


def test_finishing_merges_a_second_pipeline_run(client, experiment, pipeline):
    double = rival(client, experiment, pipeline, elected=False)
    with task_run(client, experiment, pipeline, task(1), "train") as run:
        parent = rival(client, experiment, pipeline, elected=True)
    assert finish_pipeline_run(client, experiment, pipeline, "FINISHED") == (parent, 0)
    assert client.get_run(run.run_id).data.tags["mlflow.parentRunId"] == parent
    assert client.get_run(double).info.lifecycle_stage == "deleted"


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
