from __future__ import annotations

import mlflow
import pytest

from airflow_mlops_provider.operators.pipeline import (
    FinishPipelineRunOperator,
    StartPipelineRunOperator,
)

GIVEN = {"experiment_name": "a_dag"}


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ({"train": "success", "gate": "skipped"}, "FINISHED"),
        ({"train": "failed", "gate": "upstream_failed"}, "FAILED"),
    ],
)
def test_the_run_of_a_dag_run_opens_once_and_ends_as_its_tasks_did(
    context, workspace, states, status
):
    start = StartPipelineRunOperator(task_id="start", run_tags={"git": "abc"}, **GIVEN)
    run_id = start.execute(context)
    assert start.execute(context) == run_id
    context["ti"].get_task_states.return_value = {"a_run": states}
    assert FinishPipelineRunOperator(task_id="finish", **GIVEN).execute(context) == status
    found = mlflow.MlflowClient().get_run(run_id)
    assert found.info.status == status
    assert found.data.tags["git"] == "abc"
    assert found.data.tags["airflow.run_id"] == "a_run"
