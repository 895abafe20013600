from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
from airflow.sdk import Asset, AssetAlias

from airflow_mlops_provider.operators.drift import DetectDriftOperator, ProfileDatasetOperator
from airflow_mlops_provider.records import DriftReport

STEPS = "airflow_mlops_provider.steps.drift"
STABLE = DriftReport(
    dataset_uri="/w/a.parquet",
    profile_uri="/w/p.json",
    verdict="stable",
    share_drifted=0.1,
    n_reference=1000,
    n_current=1000,
    n_features=10,
)


def test_the_profile_is_handed_over_under_its_name(context, run, dataset):
    operator = ProfileDatasetOperator(
        task_id="t", dataset=dataset.to_xcom(), columns=["x"], workspace="/w"
    )
    with patch(f"{STEPS}.profile_dataset", return_value="/w/p.json") as step:
        assert operator.execute(context) == {"profile_uri": "/w/p.json"}
    step.assert_called_once_with(dataset, ["x"], "/w")
    context["ti"].xcom_push.assert_called_once_with(key="profile_uri", value="/w/p.json")


@pytest.mark.parametrize(
    ("verdict", "name", "asset"),
    [
        ("stable", None, None),
        ("insufficient_data", None, None),
        ("drifted", None, "mlops-drift://flights"),
        ("drifted", "endpoint", "mlops-drift://endpoint"),
    ],
)
def test_only_drift_is_told(context, run, dataset, verdict, name, asset):
    report = replace(STABLE, verdict=verdict)
    operator = DetectDriftOperator(
        task_id="t",
        dataset=dataset.to_xcom(),
        profile_uri="/w/p.json",
        max_share="0.5",
        name=name,
        outlets=[AssetAlias("drift")],
    )
    with patch(f"{STEPS}.detect_drift", return_value=report) as step:
        assert operator.execute(context) == report.to_xcom()
    step.assert_called_once_with(dataset, "/w/p.json", columns=None, max_share=0.5)
    run.log_record.assert_called_once_with(report)
    add = context["outlet_events"].__getitem__.return_value.add
    if asset is None:
        add.assert_not_called()
    else:
        add.assert_called_once_with(Asset(asset), extra=report.to_xcom())
