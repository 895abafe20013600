from __future__ import annotations

from unittest.mock import patch

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.operators.train import TrainModelOperator
from airflow_mlops_provider.records import ModelRef, TrainingSpec

STEPS = "airflow_mlops_provider.steps"
MODEL = ModelRef(
    model_uri="models:/m-1",
    model_id="m-1",
    run_id="run-1",
    target="late",
    features=["hour"],
    params={},
    metrics={},
    train_hash="l",
)
GIVEN = {"estimator": "a.b", "features": ["hour"], "target": "late"}


def test_training_hands_over_the_model(context, run, dataset):
    operator = TrainModelOperator(
        task_id="t", dataset=dataset.to_xcom(), estimator_params={"depth": 3}, **GIVEN
    )
    with patch(f"{STEPS}.train.train_model", return_value=MODEL) as step:
        assert operator.execute(context) == MODEL.to_xcom()
    spec = TrainingSpec(dataset=dataset, params={"depth": 3}, **GIVEN)
    step.assert_called_once_with(spec, run=run, factory=None)
    run.log_record.assert_called_once_with(MODEL)


def test_what_is_no_dataset_fails_for_good(context, run):
    operator = TrainModelOperator(task_id="t", dataset="{'uri': 1}", **GIVEN)
    with pytest.raises(AirflowFailException, match="Expected a DatasetRef"):
        operator.execute(context)
