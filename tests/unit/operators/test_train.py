from __future__ import annotations

from unittest.mock import patch

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.operators.train import TrainModelOperator
from airflow_mlops_provider.records import EarlyStopping, ModelRef, TrainingSpec

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


def test_all_that_shapes_the_model_stands_in_the_spec(context, run, dataset, tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text("use: a.b")
    operator = TrainModelOperator(
        task_id="t",
        dataset=dataset.to_xcom(),
        estimator=str(path),
        features=("hour",),
        target="late",
        seed="3",
        class_weight={0: 1, 1: 2.5},
        early_stopping={"patience": "5"},
    )
    spec = operator.training_spec()
    assert spec.estimator == {"use": "a.b"}
    assert spec.seed == 3
    assert spec.class_weight == {"0": 1.0, "1": 2.5}
    assert spec.early_stopping == EarlyStopping(fraction=0.1, patience=5)
    assert TrainingSpec.from_xcom(spec.to_xcom()) == spec


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("serialization", "pickle"),
        ("class_weight", "even"),
        ("early_stopping", {"rounds": 3}),
        ("seed", "a lot"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(context, run, dataset, field, value):
    operator = TrainModelOperator(task_id="t", dataset=dataset.to_xcom(), **GIVEN, **{field: value})
    with pytest.raises(AirflowFailException, match=f"Not a valid TrainingSpec: {field}"):
        operator.execute(context)


def test_what_is_no_dataset_fails_for_good(context, run):
    operator = TrainModelOperator(task_id="t", dataset="{'uri': 1}", **GIVEN)
    with pytest.raises(AirflowFailException, match="Expected a DatasetRef"):
        operator.execute(context)
