from __future__ import annotations

import json
import math

import pytest

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import Metric, PipelineRunReport
from airflow_mlops_provider.steps.runs import list_pipeline_runs, read_pipeline_run
from airflow_mlops_provider.steps.track import (
    finish_pipeline_run,
    start_pipeline_run,
    task_run,
)

FACTS = {
    "airflow.run_type": "manual",
    "airflow.conf": '{"month": "2013-01"}',
    "mlops.git_commit": "abc",
    "airflow.url": "http://airflow/run",
}
EVALUATE = {
    "airflow.task_id": "evaluate",
    "airflow.map_index": "1",
    "airflow.try_number": "2",
}


@pytest.fixture
def pipeline(request):
    return {"airflow.dag_id": "read_back", "airflow.run_id": f"{request.node.name}/1"}


@pytest.fixture
def recorded(client, experiment, pipeline, dataset):
    """Ids of a pipeline run, its one task, and a trial below that."""
    parent = start_pipeline_run(client, experiment, pipeline, name="r", extra_tags=FACTS)
    with task_run(
        client, experiment, pipeline, EVALUATE, "evaluate", params={"task.target": "late"}
    ) as run:
        run.log_dataset(dataset, "evaluation")
        run.log_record(Metric(value=0.5, low=None, high=None, n=3))
        run.log_metrics({"auc": 0.7, "broken": math.nan})
        run.log_champion("models:/m-1", {"auc": 0.6})
        run.log_page("<p>", "page.html")
        nested = {"mlflow.parentRunId": run.run_id}
        trial = client.create_run(experiment, tags=nested, run_name="trial").info.run_id
    finish_pipeline_run(client, experiment, pipeline, "FINISHED")
    return parent, run.run_id, trial


def test_a_pipeline_run_reads_back_as_it_was_recorded(client, recorded, pipeline, dataset):
    report = read_pipeline_run(client, recorded[0])
    assert PipelineRunReport.from_xcom(json.loads(json.dumps(report.to_xcom()))) == report
    assert (report.dag_id, report.run_id) == tuple(pipeline.values())
    assert (report.status, report.airflow_url) == ("FINISHED", "http://airflow/run")
    assert report.seconds > 0
    assert report.trigger == {"run_type": "manual", "conf": {"month": "2013-01"}}
    assert report.versions == {"git_commit": "abc"}
    assert report.champion == {"model_uri": "models:/m-1", "metrics": {"auc": 0.6}}
    (task,) = report.tasks
    assert (task.task_id, task.map_index, task.try_number) == ("evaluate", 1, 2)
    assert task.parameters == {"target": "late"}
    assert task.metrics == {"auc": 0.7, "broken": None}
    assert task.outputs["Metric"]["value"] == 0.5
    (used,) = task.inputs
    assert (used.name, used.context, used.n_rows) == ("flights", "evaluation", dataset.n_rows)
    assert sorted(task.artifacts) == ["page.html", "records/Metric.json"]


def test_any_run_of_it_leads_to_the_same_report(client, recorded, pipeline):
    expected = read_pipeline_run(client, recorded[0])
    names = [*recorded, "/".join(pipeline.values())]
    assert [read_pipeline_run(client, name) for name in names] == [expected] * 4


def test_tasks_without_a_pipeline_run_are_shown_all_the_same(client, experiment, pipeline):
    with task_run(client, experiment, pipeline, EVALUATE, "evaluate") as run:
        pass
    report = read_pipeline_run(client, run.run_id)
    assert (report.mlflow_run_id, report.status) == (None, None)
    assert [task.mlflow_run_id for task in report.tasks] == [run.run_id]


def test_a_run_that_goes_on_has_no_end(client, experiment, pipeline):
    start_pipeline_run(client, experiment, pipeline, name="r", extra_tags={})
    finish_pipeline_run(client, experiment, pipeline, "FAILED")
    run_id = start_pipeline_run(client, experiment, pipeline, name="r", extra_tags={})
    report = read_pipeline_run(client, run_id)
    assert (report.status, report.end, report.seconds) == ("RUNNING", None, None)


@pytest.mark.parametrize("name", ["a_dag", "a_dag/nowhere", "0" * 32])
def test_what_is_not_there_is_named(client, experiment, name):
    with pytest.raises(ParameterError, match=name):
        read_pipeline_run(client, name)


def test_a_run_of_no_dag_is_refused(client, experiment):
    run_id = client.create_run(experiment).info.run_id
    with pytest.raises(ParameterError, match="the MLflow run of a DAG run"):
        read_pipeline_run(client, run_id)


def test_a_list_holds_the_newest_of_one_dag(client, experiment):
    for number in range(3):
        tags = {"airflow.dag_id": "listed", "airflow.run_id": str(number)}
        start_pipeline_run(client, experiment, tags, name="r", extra_tags=FACTS)
    found = list_pipeline_runs(client, dag_id="listed", limit=2)
    assert [(run.dag_id, run.run_id) for run in found] == [("listed", "2"), ("listed", "1")]
    assert found[0].run_type == "manual"
    assert len(list_pipeline_runs(client, limit=3)) == 3
