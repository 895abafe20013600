from __future__ import annotations

from unittest.mock import MagicMock

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_mlops_provider.exceptions import DataError, MlflowUnavailableError
from airflow_mlops_provider.operators.base import MlopsOperator, failing_for_good, status_after
from airflow_mlops_provider.operators.provenance import task_tags
from airflow_mlops_provider.operators.train import TrainModelOperator


@pytest.mark.parametrize(
    ("ours", "seen"),
    [
        (DataError("no column"), AirflowFailException),
        (MlflowUnavailableError("down"), MlflowUnavailableError),
    ],
)
def test_only_what_a_retry_cannot_mend_fails_for_good(ours, seen):
    with pytest.raises(seen, match=str(ours)), failing_for_good():
        raise ours


def test_what_fails_for_good_says_so_in_one_line():
    with pytest.raises(AirflowFailException) as failed, failing_for_good():
        raise DataError("in line 2:\n    [local\n    ^\nCorrect it.")
    assert str(failed.value) == "in line 2: [local ^ Correct it."


def test_functions_are_handed_on_and_not_called_to_render_them(dataset):
    operator = TrainModelOperator(
        task_id="t", dataset="{{ given }}", estimator=dict, features=["{{ given }}"], target="late"
    )
    operator.render_template_fields({"given": "rendered", "dag": MagicMock()})
    assert (operator.dataset, operator.features) == ("rendered", ["rendered"])
    assert operator.estimator is dict


def test_a_tracked_run_is_found_in_mlflow_by_the_task_it_belongs_to(context, workspace):
    import mlflow

    operator = MlopsOperator(task_id="t", experiment_name="a_dag")
    with operator.tracked_run(context) as run:
        pass
    found = mlflow.MlflowClient().get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert task_tags(context).items() <= found.data.tags.items()


@pytest.mark.parametrize(
    ("tracking_uri", "url"),
    [
        ("http://mlflow", "http://mlflow/#/experiments/1/runs/run-1/artifacts/card.html"),
        ("sqlite:///mlflow.db", None),
    ],
)
def test_a_button_to_an_artifact_works_while_the_task_runs(context, run, tracking_uri, url):
    run.client.tracking_uri = tracking_uri
    MlopsOperator(task_id="t").link_artifact(context, run, "card_url", "card.html")
    push = context["ti"].xcom_push
    if url is None:
        push.assert_not_called()
    else:
        push.assert_called_once_with(key="card_url", value=url)


def test_the_workspace_is_that_of_the_configuration_unless_given(workspace):
    assert MlopsOperator(task_id="t").workspace_uri == workspace
    assert MlopsOperator(task_id="t", workspace="s3://w").workspace_uri == "s3://w"


def test_an_event_is_emitted_only_through_an_alias(context, dataset):
    alias = AssetAlias("new-data")
    asset = Asset("mlops-dataset://flights")
    MlopsOperator(task_id="t", outlets=[asset]).emit_asset(context, asset, dataset)
    assert not context["outlet_events"].__getitem__.called
    MlopsOperator(task_id="u", outlets=[alias]).emit_asset(context, asset, dataset)
    events = context["outlet_events"].__getitem__
    events.assert_called_once_with(alias)
    events.return_value.add.assert_called_once_with(asset, extra=dataset.to_xcom())


def test_a_task_that_is_told_to_stop_ends_its_run_as_killed(context, workspace):
    operator = MlopsOperator(task_id="t", experiment_name="a_dag")
    operator.on_kill()
    with operator.tracked_run(context) as run:
        operator.on_kill()
        assert run.client.get_run(run.run_id).info.status == "KILLED"
    assert run.client.get_run(run.run_id).info.status == "KILLED"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AirflowSkipException(), "FINISHED"),
        (TaskDeferred(trigger=MagicMock(), method_name="m"), None),
        (DataError(), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_what_an_error_means_for_a_run(error, status):
    assert status_after(error) == status
