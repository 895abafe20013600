from __future__ import annotations

from unittest.mock import patch

import pytest
from airflow.sdk import AssetAlias
from airflow.sdk.exceptions import AirflowSkipException

from airflow_mlops_provider.operators.register import (
    GetModelVersionOperator,
    RegisterModelOperator,
)
from airflow_mlops_provider.records import ModelRef, ModelVersionRef

STEPS = "airflow_mlops_provider.steps.register"
MODEL = ModelRef(
    model_uri="models:/m-1",
    model_id="m-1",
    run_id="r",
    target="late",
    features=["hour"],
    params={},
    metrics={},
    train_hash="l",
)
VERSION = ModelVersionRef(
    name="delay",
    version="2",
    model_uri="models:/delay/2",
    model_id="m-1",
    run_id="r",
    aliases=["challenger"],
)


def test_registering_wakes_whoever_waits_for_versions(context, run):
    alias = AssetAlias("versions")
    operator = RegisterModelOperator(
        task_id="t",
        model=MODEL.to_xcom(),
        name="delay",
        profile_uri="/w/p.json",
        suite_uri="/w/s.yaml",
        feature_service="s@1",
        version_tags={"team": "ops"},
        outlets=[alias],
    )
    with patch(f"{STEPS}.register_model", return_value=VERSION) as step:
        assert operator.execute(context) == VERSION.to_xcom()
    step.assert_called_once_with(
        run.client,
        MODEL,
        name="delay",
        tags={
            "mlops.profile_uri": "/w/p.json",
            "mlops.suite_uri": "/w/s.yaml",
            "mlops.feature_service": "s@1",
            "team": "ops",
        },
    )
    asset = context["outlet_events"][alias].add.call_args.args[0]
    assert asset.uri.rstrip("/") == "mlflow-model://delay"


def test_a_version_is_looked_up(context, run):
    operator = GetModelVersionOperator(task_id="t", model="models:/delay@challenger")
    with patch(f"{STEPS}.resolve_version", return_value=VERSION):
        assert operator.execute(context) == VERSION.to_xcom()


def test_no_version_skips(context, run):
    operator = GetModelVersionOperator(task_id="t", model="models:/delay@challenger")
    with (
        patch(f"{STEPS}.resolve_version", return_value=None),
        pytest.raises(AirflowSkipException, match="delay@challenger"),
    ):
        operator.execute(context)
