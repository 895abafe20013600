from __future__ import annotations

from unittest.mock import MagicMock

import mlflow
from airflow.sdk import DAG, task


def test_a_function_writes_to_the_run_of_its_task(workspace):
    with DAG("a_dag"):

        @task.mlflow_run(experiment_name="a_dag")
        def measure(value):
            mlflow.log_metric("late_rate", value)
            return mlflow.active_run().info.run_id

        measure(0.25)
    operator = measure(0.25).operator
    ti = MagicMock(dag_id="a_dag", run_id="a_run", task_id="measure", map_index=-1, try_number=1)
    run_id = operator.execute({"ti": ti, "task": operator, "outlet_events": MagicMock()})
    found = mlflow.MlflowClient().get_run(run_id)
    assert found.data.metrics == {"late_rate": 0.25}
    assert found.data.tags["airflow.task_id"] == "measure"
    assert found.info.status == "FINISHED"
