from __future__ import annotations

from unittest.mock import patch

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_mlops_provider.exceptions import RegistryConflictError, ServiceError
from airflow_mlops_provider.operators import (
    CheckPipelineRunOperator,
    PromotePipelineOperator,
    RollbackPipelineOperator,
    WaitForDagVersionOperator,
)
from airflow_mlops_provider.operators import pipeline_cd as module
from airflow_mlops_provider.records import (
    PipelineEnvironment,
    PipelinePromotion,
    PublishedPipeline,
)
from airflow_mlops_provider.steps.pipeline_cd.watch import Answer

STEPS = "airflow_mlops_provider.steps.pipeline_cd"
COMMIT = "c" * 40
ENVIRONMENT = PipelineEnvironment(
    name="production",
    repository="/forge",
    ref="production",
    airflow_conn_id="airflow",
    bundle="pipeline",
    dag_id="train",
)
VERSION = PublishedPipeline(
    name="shop",
    version="1",
    commit=COMMIT,
    manifest_uri="/m",
    wheel_uri="/w",
    wheel_sha256="w",
    source_uri="/s",
    repository="/forge",
)
PROMOTION = PipelinePromotion(
    environment="production",
    kind="promotion",
    commit=COMMIT,
    previous="b" * 40,
    by="a_dag a_run",
    at="2026-01-01",
    known_errors=["old.py"],
    entry="e" * 40,
)
GIVEN = {"task_id": "t", "environment": ENVIRONMENT.to_xcom(), "poke_interval": "0.001"}


@pytest.fixture
def api():
    with patch.object(module.AirflowApiHook, "get_conn") as get_conn:
        yield get_conn.return_value.__enter__.return_value


@pytest.fixture
def looks():
    with patch.object(module, "look", return_value=Answer(found={"a": 1})) as asked:
        yield asked


def test_promote_names_the_run_and_what_was_broken_before(context, api):
    api.import_errors.return_value = {"b.py": "", "a.py": ""}
    with patch(f"{STEPS}.promote.promote_pipeline", return_value=PROMOTION) as promote:
        task = PromotePipelineOperator(version=VERSION.to_xcom(), expected="", **GIVEN)
        assert task.execute(context) == PROMOTION.to_xcom()
    ledger, environment, version = promote.call_args.args
    assert (ledger.repository, environment, version) == ("/forge", ENVIRONMENT, VERSION)
    given = promote.call_args.kwargs
    assert given.pop("at")
    assert given == {"by": "a_dag a_run", "expected": None, "known_errors": ["a.py", "b.py"]}


def test_nothing_is_moved_where_airflow_does_not_answer(context, api):
    api.import_errors.side_effect = ServiceError("away")
    with patch(f"{STEPS}.promote.promote_pipeline") as promote, pytest.raises(ServiceError):
        PromotePipelineOperator(version=VERSION.to_xcom(), **GIVEN).execute(context)
    promote.assert_not_called()


def test_a_ref_moved_by_hand_fails_for_good(context, api):
    api.import_errors.return_value = {}
    with (
        patch(f"{STEPS}.promote.promote_pipeline", side_effect=RegistryConflictError("by hand")),
        pytest.raises(AirflowFailException, match="by hand"),
    ):
        PromotePipelineOperator(version=VERSION.to_xcom(), **GIVEN).execute(context)


def test_git_gets_none_of_airflows_settings(context, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SECRET", "x")
    task = PromotePipelineOperator(version=None, variables={"GIT_SSH_COMMAND": "ssh -i k"}, **GIVEN)
    with task.ledger(ENVIRONMENT) as ledger:
        assert ledger._environment["GIT_SSH_COMMAND"] == "ssh -i k"
        assert "AIRFLOW_CONN_SECRET" not in ledger._environment


def test_wait_looks_until_it_is_served(context, looks):
    looks.side_effect = [Answer(waits_for="not yet"), Answer(found={"a": 1})]
    task = WaitForDagVersionOperator(promotion=PROMOTION.to_xcom(), deferrable=False, **GIVEN)
    assert task.execute(context) == {"a": 1}
    asked = {"commit": COMMIT, "known_errors": ["old.py"]}
    looks.assert_called_with(ENVIRONMENT.to_xcom(), "served", asked)


def test_a_wait_in_vain_fails_for_good_and_says_for_what(context, looks):
    looks.return_value = Answer(waits_for="train is at dddd")
    task = WaitForDagVersionOperator(
        promotion=PROMOTION.to_xcom(), deferrable=False, timeout_seconds="0", **GIVEN
    )
    with pytest.raises(AirflowFailException, match="in vain: train is at dddd"):
        task.execute(context)


def test_check_waits_in_the_triggerer_for_the_run_it_started(context, api, looks):
    with patch(f"{STEPS}.watch.start_check", return_value="r") as start:
        task = CheckPipelineRunOperator(promotion=PROMOTION.to_xcom(), deferrable=True, **GIVEN)
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(context)
    start.assert_called_once_with(api, ENVIRONMENT, PROMOTION)
    _, given = deferred.value.trigger.serialize()
    assert given["question"] == "finished"
    assert given["arguments"] == {"commit": COMMIT, "run_id": "r"}
    assert given["poke_interval"] == 0.001
    looks.assert_not_called()


def test_what_the_trigger_found_is_returned_and_its_error_fails(context):
    task = CheckPipelineRunOperator(promotion=PROMOTION.to_xcom(), **GIVEN)
    assert task.execute_complete(context, {"found": {"a": 1}}) == {"a": 1}
    with pytest.raises(AirflowFailException, match="it failed"):
        task.execute_complete(context, {"error": "it\nfailed"})


@pytest.mark.parametrize("deferrable", [False, True])
def test_roll_back_waits_until_the_earlier_version_is_served(context, looks, deferrable):
    task = RollbackPipelineOperator(version=VERSION.to_xcom(), deferrable=deferrable, **GIVEN)
    with patch(f"{STEPS}.promote.roll_back_pipeline", return_value=PROMOTION):
        if not deferrable:
            assert task.execute(context) == PROMOTION.to_xcom()
            return
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(context)
    kept = deferred.value.kwargs
    assert task.execute_complete(context, {"found": {}}, **kept) == PROMOTION.to_xcom()


@pytest.mark.parametrize("version", [None, VERSION.to_xcom()])
def test_where_nothing_was_moved_the_roll_back_is_skipped(context, version):
    task = RollbackPipelineOperator(version=version, **GIVEN)
    with (
        patch(f"{STEPS}.promote.roll_back_pipeline", return_value=None),
        pytest.raises(AirflowSkipException),
    ):
        task.execute(context)
