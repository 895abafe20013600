"""A pipeline whose tasks fail, hang and are killed as its conf says."""

from __future__ import annotations

import time
from datetime import timedelta

from airflow.sdk import DAG, get_current_context, task

from airflow_mlops_provider.operators import FinishPipelineRunOperator, StartPipelineRunOperator

with DAG(
    "tracked", default_args={"retries": 1, "retry_delay": timedelta(0)}, schedule=None
) as pipeline:

    def first_try_with(key):
        context = get_current_context()
        conf = context["dag_run"].conf or {}
        return conf.get(key) if context["ti"].try_number == 1 else None

    @task.mlflow_run
    def prepare():
        return [0, 1, 2]

    @task.mlflow_run
    def work(n, password="hunter2"):  # noqa: S107 - it has to be masked
        if first_try_with("fail") == n:
            raise ValueError("as the conf says")

    @task.mlflow_run
    def report():
        if seconds := first_try_with("hang"):
            import mlflow

            mlflow.set_tag("hangs", "yes")
            time.sleep(seconds)

    start = StartPipelineRunOperator(task_id="start")
    with FinishPipelineRunOperator(task_id="finish").as_teardown(setups=start):
        work.expand(n=prepare()) >> report()
