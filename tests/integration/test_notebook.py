"""Notebooks in real kernels that write to a real MLflow server."""

from __future__ import annotations

import json
import os
import signal
import threading
from unittest.mock import MagicMock

import mlflow
import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import NotebookError
from airflow_mlops_provider.operators import RunNotebookOperator, StartPipelineRunOperator
from airflow_mlops_provider.steps.snapshot import write_dataset
from tests.notebooks import ends, write_notebook, written

MEASURE = """
import os

import mlflow

with mlflow.start_run():
    mlflow.log_metric("rows", dataset["n_rows"] * factor)
    with mlflow.start_run(nested=True):
        mlflow.log_param("who", os.environ["MLFLOW_TRACKING_TOKEN"])
    mlflow.log_dict({"columns": list(dataset["columns"])}, "outputs.json")
"""


@pytest.fixture
def client(mlflow_server, monkeypatch):
    connection = {"conn_type": "mlflow", "host": mlflow_server, "extra": {"token": "secret"}}
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps(connection))
    return mlflow.MlflowClient(mlflow_server)


@pytest.fixture
def context(request):
    name = request.node.name
    ti = MagicMock(dag_id="notebooks", run_id=name, task_id="t", map_index=-1, try_number=1)
    return {"ti": ti}


def operator_of(notebook, **arguments):
    return RunNotebookOperator(
        task_id="t", notebook=notebook, experiment_name="notebooks", **arguments
    )


def runs_of(client, context):
    """The runs of a test's tasks, and those that its notebooks nested in them."""
    experiment = client.get_experiment_by_name("notebooks").experiment_id
    query = f"tags.`airflow.run_id` = '{context['ti'].run_id}' and tags.`mlops.kind` = 'task'"
    found = client.search_runs([experiment], query)
    nested = [
        run
        for parent in found
        for run in client.search_runs(
            [experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        )
    ]
    return found, nested


def linked(context):
    pushed = [call.kwargs for call in context["ti"].xcom_push.call_args_list]
    return {each["key"]: each["value"] for each in pushed}.get("notebook_url", "")


def test_a_notebook_writes_to_the_run_of_its_task(client, context, workspace, tmp_path):
    start = StartPipelineRunOperator(task_id="start", experiment_name="notebooks")
    pipeline = start.execute(context)
    dataset = write_dataset(pd.DataFrame({"n": [1, 2]}), "d", workspace, "test")
    operator = operator_of(
        write_notebook(tmp_path / "a.ipynb", MEASURE, parameters="dataset = None\nfactor = 1"),
        parameters={"dataset": dataset.to_xcom(), "factor": 10},
    )
    given = operator.execute(context)

    (run,), (nested,) = runs_of(client, context)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == pipeline
    assert given["run_id"] == run.info.run_id
    assert given["metrics"] == run.data.metrics == {"rows": 20.0}
    assert given["outputs"] == {"columns": ["n"]}
    assert [each.dataset.name for each in run.inputs.dataset_inputs] == ["d"]
    assert nested.data.params == {"who": "secret"}
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert kept == {"notebook.ipynb", "notebook.html", "outputs.json", "records"}
    assert "factor = 10" in mlflow.artifacts.load_text(given["notebook_uri"])
    assert linked(context).endswith(f"{run.info.run_id}/artifacts/notebook.html")
    assert "secret" not in os.environ.values()
    assert "MLFLOW_RUN_ID" not in os.environ


def test_a_notebook_that_fails_is_kept_and_each_try_has_its_run(client, context, tmp_path):
    operator = operator_of(write_notebook(tmp_path / "a.ipynb", "print('half')", "1 / 0"))
    for attempt in (1, 2):
        context["ti"].try_number = attempt
        with pytest.raises(NotebookError, match=r"In \[2\] \(`1 / 0`\) failed: ZeroDivisionError"):
            operator.execute(context)
    runs, _ = runs_of(client, context)
    assert [run.info.status for run in runs] == ["FAILED", "FAILED"]
    for run in runs:
        page = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notebook.html")
        assert "half" in page
        assert "division by zero" in page
    assert linked(context).endswith("/artifacts/notebook.html")


def test_a_task_that_is_told_to_stop_ends_its_kernel_and_keeps_the_notebook(
    client, context, tmp_path
):
    tell = "import os, time\nwith open('pid', 'w') as file: print(os.getpid(), file=file)"
    operator = operator_of(
        write_notebook(tmp_path / "a.ipynb", "print('half')", f"{tell}\ntime.sleep(600)")
    )
    pids = []

    def stop():
        pids.append(int(written(tmp_path / "pid")))
        os.kill(os.getpid(), signal.SIGTERM)

    # what Airflow's task runner does
    before = signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    watcher = threading.Thread(target=stop)
    watcher.start()
    try:
        with pytest.raises(NotebookError, match="kernel died"):
            operator.execute(context)
    finally:
        watcher.join()
        signal.signal(signal.SIGTERM, before)
    assert ends(pids[0])
    (run,), _ = runs_of(client, context)
    assert run.info.status == "KILLED"
    assert "half" in mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notebook.html")
