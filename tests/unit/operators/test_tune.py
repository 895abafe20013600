from __future__ import annotations

from unittest.mock import patch

from airflow_mlops_provider.operators.tune import TuneModelOperator
from airflow_mlops_provider.records import ModelRef, SearchSpec

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


def test_tuning_passes_numbers_that_came_as_text(context, run, dataset):
    operator = TuneModelOperator(
        task_id="t", dataset=dataset.to_xcom(), search_space={}, n_trials="5", seed="2", **GIVEN
    )
    with patch(f"{STEPS}.tune.tune_model", return_value=MODEL) as step:
        assert operator.execute(context) == MODEL.to_xcom()
    _, search = step.call_args.args
    assert search == SearchSpec(space={}, n_trials=5, seed=2)
