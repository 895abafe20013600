from __future__ import annotations

from unittest.mock import patch

import pytest
from airflow.sdk import AssetAlias
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_mlops_provider.operators.register import (
    GetModelVersionOperator,
    RegisterModelOperator,
)
from airflow_mlops_provider.records import GateVerdict, ModelRef, ModelVersionRef
from airflow_mlops_provider.steps.model_card import ModelCard, Origin

STEPS = "airflow_mlops_provider.steps.register"
CARD = "airflow_mlops_provider.steps.model_origin"
VERDICT = GateVerdict(outcome="promote", challenger_uri="m", champion_uri=None, reasons=[])
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


@pytest.fixture(autouse=True)
def card():
    """What is kept of the model's card."""
    with patch(f"{CARD}.origin_of", return_value=Origin()), patch(f"{CARD}.keep_card") as kept:
        yield kept


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


@pytest.mark.parametrize(("owner", "told"), [("airflow", None), ("ops", "ops")])
def test_the_card_has_what_the_task_was_given(context, run, card, owner, told):
    run.client.tracking_uri = "http://mlflow"
    operator = RegisterModelOperator(
        task_id="t",
        model=MODEL.to_xcom(),
        name="delay",
        profile_uri="/w/p.json",
        intended_use="Tests.",
        verdict=VERDICT.to_xcom(),
        owner=owner,
    )
    with patch(f"{STEPS}.register_model", return_value=VERSION):
        operator.execute(context)
    expected = ModelCard(
        version=VERSION,
        model=MODEL,
        intended_use="Tests.",
        owner=told,
        verdict=VERDICT,
        behaviour=[],
        monitored_by={"Drift profile": "/w/p.json"},
    )
    card.assert_called_once_with(run, expected)
    context["ti"].xcom_push.assert_called_once_with(
        key="model_card_url",
        value="http://mlflow/#/experiments/1/runs/run-1/artifacts/model_card.html",
    )


@pytest.mark.parametrize("wrong", [{"verdict": {"x": 1}}, {"behaviour": [{"x": 1}]}])
def test_what_is_no_record_registers_nothing(context, run, wrong):
    operator = RegisterModelOperator(task_id="t", model=MODEL.to_xcom(), name="delay", **wrong)
    with (
        patch(f"{STEPS}.register_model") as step,
        pytest.raises(AirflowFailException, match="Not a valid"),
    ):
        operator.execute(context)
    step.assert_not_called()


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
