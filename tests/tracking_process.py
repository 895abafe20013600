"""What the tests of tracking do in processes of their own: ``python -m tests.tracking_process``."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack

from airflow_mlops_provider.steps.track import (
    experiment_id,
    finish_pipeline_run,
    start_pipeline_run,
    task_run,
)


def pipeline_of(run_id: str) -> dict[str, str]:
    return {"airflow.dag_id": "a_dag", "airflow.run_id": run_id}


def task_of(task_id: str, attempt: int = 1) -> dict[str, str]:
    return {
        "airflow.task_id": task_id,
        "airflow.map_index": "-1",
        "airflow.try_number": str(attempt),
    }


def start(client, experiment, run_id):
    return start_pipeline_run(client, experiment, pipeline_of(run_id), name=run_id, extra_tags={})


def race(client, experiment, run_ids, own):
    """Start one pipeline run after the other, each at a moment that rivals know too.

    Then go through a pipeline run of our own, while they go through theirs.
    """
    print("ready", flush=True)
    at = float(sys.stdin.readline())
    ids = []
    for number, run_id in enumerate(run_ids):
        time.sleep(max(0.0, at + number / 2 - time.time()))
        ids.append(start(client, experiment, run_id))
    start(client, experiment, own)
    for task_id in ("a", "b", "c"):
        with task_run(client, experiment, pipeline_of(own), task_of(task_id), task_id):
            pass
    finish_pipeline_run(client, experiment, pipeline_of(own), "FINISHED")
    print(json.dumps(ids))


def wait(client, experiment, *run_ids):
    """Open a task's run with a trial below it in each DAG run, and fail once told to."""
    with ExitStack() as stack:
        for run_id in run_ids:
            start(client, experiment, run_id)
            task = task_run(client, experiment, pipeline_of(run_id), task_of("tune"), "tune")
            run = stack.enter_context(task)
            client.create_run(experiment, tags={"mlflow.parentRunId": run.run_id}, run_name="trial")
            print(run.run_id, flush=True)
        sys.stdin.readline()
        raise ValueError("the error of the task")


if __name__ == "__main__":
    import mlflow

    what, uri, *arguments = sys.argv[1:]
    mlflow_client = mlflow.MlflowClient(uri, uri)
    found = experiment_id(mlflow_client, "a_dag", None)
    {"race": race, "wait": wait}[what](mlflow_client, found, *map(json.loads, arguments))
