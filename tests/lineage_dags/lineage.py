"""A model from a snapshot to the registry; the environment says where the rows lie."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from airflow_mlops_provider.operators import (
    FinishPipelineRunOperator,
    RegisterModelOperator,
    SnapshotDatasetOperator,
    StartPipelineRunOperator,
    TrainModelOperator,
    ValidateDataOperator,
)

SUITE = {
    "name": "few_rows",
    "expectations": [
        {
            "type": "expect_column_max_to_be_between",
            "kwargs": {"column": "n", "max_value": 5},
            "severity": "warning",
        }
    ],
}

with DAG("lineage", schedule=None) as pipeline:
    start = StartPipelineRunOperator(task_id="start")
    with FinishPipelineRunOperator(task_id="finish").as_teardown(setups=start):
        snapshot = SnapshotDatasetOperator(
            task_id="snapshot", name="numbers", source=os.environ.get("LINEAGE_ROWS", "")
        )
        validate = ValidateDataOperator(task_id="validate", dataset=snapshot.output, suite=SUITE)
        train = TrainModelOperator(
            task_id="train",
            dataset=snapshot.output,
            estimator="sklearn.linear_model.LogisticRegression",
            features=["n"],
            target="large",
        )
        register = RegisterModelOperator(
            task_id="register", model=train.output, name="large_numbers"
        )
        validate >> train >> register

if __name__ == "__main__":
    pipeline.test()
