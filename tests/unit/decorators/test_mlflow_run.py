from __future__ import annotations

import json
from typing import Any
from unittest.mock import MagicMock

import mlflow
import pandas as pd
import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.records import DatasetRef, Metric, SplitRef
from airflow_mlops_provider.steps.snapshot import write_dataset


@pytest.fixture
def call(workspace):
    """Call a function as its task would; give what it handed over, and its MLflow run."""

    def called(function, /, *arguments, **named):
        with DAG("a_dag"):
            operator = task.mlflow_run(function, experiment_name="a_dag")(
                *arguments, **named
            ).operator
        ti = MagicMock(
            dag_id="a_dag", run_id="a_run", task_id=function.__name__, map_index=-1, try_number=1
        )
        context = {"ti": ti, "task": operator, "outlet_events": MagicMock()}
        try:
            return operator.execute(context), last_run()
        finally:
            assert mlflow.active_run() is None

    return called


def last_run():
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("a_dag").experiment_id
    return client.search_runs([experiment], max_results=1)[0]


def kept(run, name) -> Any:
    return json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{name}"))


def inputs_of(run):
    return {
        next(tag.value for tag in each.tags if tag.key == "mlflow.data.context"): each.dataset.name
        for each in run.inputs.dataset_inputs
    }


def test_a_function_writes_to_the_run_of_its_task(call):
    def measure(value):
        mlflow.log_metric("late_rate", value)
        return mlflow.active_run().info.run_id

    run_id, found = call(measure, 0.25)
    assert found.info.run_id == run_id
    assert found.data.metrics == {"late_rate": 0.25}
    assert found.data.tags["airflow.task_id"] == "measure"
    assert found.info.status == "FINISHED"


def test_datasets_are_inputs_under_the_names_of_their_arguments(call, tmp_path):
    all_rows, train, test = (
        write_dataset(pd.DataFrame({"late": [0, n]}), name, str(tmp_path), "test")
        for n, name in enumerate(["all", "train", "test"])
    )
    split = SplitRef(strategy="time", train=train, test=test).to_xcom()

    def look(rows, split):
        assert DatasetRef.from_xcom(rows) == all_rows

    _, run = call(look, all_rows.to_xcom(), split=split)
    assert inputs_of(run) == {"rows": "all", "split.train": "train", "split.test": "test"}


def test_texts_numbers_and_flags_are_parameters_and_all_else_is_not(call):
    def look(origin, rate, *, deep, columns, nothing, limit):
        pass

    _, run = call(look, "JFK", 0.1, deep=True, columns=["a"], nothing=None, limit=float("inf"))
    assert given_to(run) == {"origin": "JFK", "rate": "0.1", "deep": "True"}


def test_a_function_gets_its_run_if_it_asks(call):
    def ask(mlflow_run=None):
        mlflow_run.log_metrics({"asked": 1.0})
        return {"run_id": mlflow_run.run_id}

    result, run = call(ask)
    assert result == {"run_id": run.info.run_id}
    assert run.data.metrics == {"asked": 1.0}


def test_what_json_can_hold_is_kept_and_is_no_metric(call):
    returned = {"mean": 2.5, "rows": [1, 2]}
    result, run = call(lambda_of(returned))
    assert result == kept(run, "outputs.json") == returned
    assert run.data.metrics == {}


@pytest.mark.parametrize("returned", [None, {"rate": float("nan")}, object()])
def test_what_json_cannot_hold_is_handed_over_and_not_kept(call, returned):
    result, run = call(lambda_of(returned))
    assert result is returned
    assert mlflow.MlflowClient().list_artifacts(run.info.run_id) == []


def test_a_record_is_handed_over_as_its_dict_and_kept_under_its_name(call):
    record = Metric(value=0.8, low=0.7, high=0.9, n=10)
    result, run = call(lambda_of(record))
    assert result == kept(run, "records/Metric.json") == record.to_xcom()


def test_an_async_function_works_in_its_run(call):
    async def measure():
        mlflow.log_metric("late_rate", 0.5)
        return "done"

    result, run = call(measure)
    assert result == "done"
    assert run.data.metrics == {"late_rate": 0.5}


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError("gone"), OSError), (DataError("no rows"), AirflowFailException)]
)
def test_an_error_of_the_function_fails_its_run_and_is_the_one_told(call, error, raised):
    def fail(rate):
        raise error

    with pytest.raises(raised, match=str(error)):
        call(fail, 0.5)
    assert last_run().info.status == "FAILED"
    assert given_to(last_run()) == {"rate": "0.5"}


def given_to(run):
    """The parameters of the function; those of the task have a prefix."""
    params = run.data.params.items()
    return {name: value for name, value in params if not name.startswith("task.")}


def lambda_of(value):
    def give():
        return value

    return give
