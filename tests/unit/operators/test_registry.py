from __future__ import annotations

from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk import AssetAlias
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.exceptions import RegistryConflictError
from airflow_mlops_provider.operators.registry import (
    PromoteModelOperator,
    RollbackModelOperator,
    SetModelAliasOperator,
)
from airflow_mlops_provider.records import ModelVersionRef

STEPS = "airflow_mlops_provider.steps.promote"


@pytest.fixture
def given(version):
    return ModelVersionRef.from_xcom(version())


@pytest.mark.parametrize("known", [True, False])
def test_promotion_names_the_champion_it_was_decided_against(context, run, given, known):
    operator = PromoteModelOperator(
        task_id="t",
        model_version=given.to_xcom(),
        expected_champion=given.to_xcom() if known else None,
    )
    with patch(f"{STEPS}.promote_version", return_value=given) as step:
        assert operator.execute(context) == given.to_xcom()
    step.assert_called_once_with(run.client, given, expected_champion="2" if known else None)


def test_rolling_back_says_why_and_who_and_tells_the_asset(context, run, given):
    alias = AssetAlias("versions")
    context["outlet_events"] = {alias: MagicMock()}
    operator = RollbackModelOperator(
        task_id="t",
        name="delay",
        reason="slow",
        expected_champion=given.to_xcom(),
        outlets=[alias],
    )
    with patch(f"{STEPS}.roll_back", return_value=given) as step:
        assert operator.execute(context) == given.to_xcom()
    step.assert_called_once_with(
        run.client, "delay", reason="slow", by="a_dag/a_run/t", expected_champion="2"
    )
    asset = context["outlet_events"][alias].add.call_args.args[0]
    assert asset.uri.rstrip("/") == "mlflow-model://delay"


def test_a_rival_who_moved_the_champion_fails_the_task_for_good(context, run):
    operator = RollbackModelOperator(task_id="t", name="delay", reason="slow")
    with (
        patch(f"{STEPS}.roll_back", side_effect=RegistryConflictError("found 3")),
        pytest.raises(AirflowFailException, match="found 3"),
    ):
        operator.execute(context)


def test_an_alias_is_set(context, run, given):
    operator = SetModelAliasOperator(task_id="t", model="models:/delay/2", alias="staging")
    with patch(f"{STEPS}.set_alias", return_value=given) as step:
        assert operator.execute(context) == given.to_xcom()
    step.assert_called_once_with(run.client, "models:/delay/2", "staging")
