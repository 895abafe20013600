from __future__ import annotations

from unittest.mock import call, patch

from airflow_mlops_provider.operators.split import SplitDatasetOperator
from airflow_mlops_provider.records import SplitRef


def test_both_parts_are_handed_over_under_their_names(context, run, dataset):
    split = SplitRef(strategy="time", train=dataset, test=dataset)
    operator = SplitDatasetOperator(
        task_id="t", dataset=dataset.to_xcom(), column="time", test_size="0.3", workspace="/w"
    )
    step = "airflow_mlops_provider.steps.split.split_dataset"
    with patch(step, return_value=split) as split_dataset:
        assert operator.execute(context) == split.to_xcom()
    split_dataset.assert_called_once_with(
        dataset, strategy="time", column="time", test_size=0.3, seed=0, workspace="/w"
    )
    assert context["ti"].xcom_push.call_args_list == [
        call(key="train", value=dataset.to_xcom()),
        call(key="test", value=dataset.to_xcom()),
    ]
