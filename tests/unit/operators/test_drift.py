from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk import DAG, Asset, AssetAlias, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_mlops_provider.links import DriftReportLink
from airflow_mlops_provider.operators.drift import (
    DetectDriftBranchOperator,
    DetectDriftOperator,
    ProfileDatasetOperator,
)
from airflow_mlops_provider.steps import profile
from airflow_mlops_provider.steps.drift import check as drift_check
from airflow_mlops_provider.steps.drift.check import DriftCheck
from tests.drift_reports import drift_report, feature_drift


@pytest.fixture(autouse=True)
def due(context):
    context["dag_run"] = MagicMock(
        data_interval_end=None, run_after=datetime(2013, 7, 4, tzinfo=UTC)
    )


@pytest.fixture
def detect(context, run, workspace):
    """Run the operator on a comparison that is given."""

    def execute(report, **arguments):
        check = DriftCheck("flights", report, "<html>", {"origin": b"png"})
        given = {"profile_uri": "/w/p.json", "window": "2013-07-01", **arguments}
        operator = DetectDriftOperator(
            task_id="t", workspace=workspace, outlets=[AssetAlias("drift")], **given
        )
        with patch.object(drift_check, "check_drift", return_value=check) as step:
            assert operator.execute(context) == report.to_xcom()
        return step

    return execute


def test_profile_and_suite_are_handed_over_under_their_names(context, run, dataset):
    kept = profile.Reference("/w/p.json", "/w/s.yaml", "name: flights")
    operator = ProfileDatasetOperator(
        task_id="t",
        dataset=dataset.to_xcom(),
        columns=["x"],
        segments=["origin"],
        sample_rows="100",
        suite_name="baseline",
        workspace="/w",
    )
    with patch.object(profile, "keep_reference", return_value=kept) as step:
        uris = operator.execute(context)
    assert uris == {"profile_uri": "/w/p.json", "suite_uri": "/w/s.yaml"}
    step.assert_called_once_with(
        dataset,
        workspace="/w",
        columns=["x"],
        segments=["origin"],
        sample_rows=100,
        suite_name="baseline",
    )
    run.client.log_text.assert_called_once_with("run-1", "name: flights", "suite.yaml")
    pushed = [call.kwargs for call in context["ti"].xcom_push.mock_calls]
    assert {each["key"]: each["value"] for each in pushed} == uris


def test_the_comparison_is_told_all_of_the_task(detect, workspace, dataset):
    step = detect(
        drift_report(),
        dataset=dataset.to_xcom(),
        columns=["x"],
        max_share="0.5",
        weights={"x": 2.0},
        domain_classifier=True,
        consecutive="3",
        name="live",
        renderer="evidently",
    )
    given = step.call_args.kwargs
    assert given.pop("checked_at").tzinfo is UTC
    assert step.call_args.args == (dataset, "/w/p.json")
    assert given == {
        "columns": ["x"],
        "max_share": 0.5,
        "weights": {"x": 2.0},
        "domain_classifier": True,
        "consecutive": 3,
        "window": "2013-07-01",
        "name": "live",
        "renderer": "evidently",
        "workspace": workspace,
    }


def test_files_are_looked_at_where_they_lie(detect):
    assert detect(drift_report(), source="/data/*.csv").call_args.args[0] == "/data/*.csv"


@pytest.mark.parametrize("arguments", [{}, {"dataset": "{}", "source": "/data"}])
def test_either_a_dataset_or_files(context, run, arguments):
    operator = DetectDriftOperator(task_id="t", profile_uri="/w/p.json", **arguments)
    with pytest.raises(AirflowFailException, match="source parameter of DetectDriftOperator"):
        operator.execute(context)


@pytest.mark.parametrize(
    ("interval_end", "window_end", "window"),
    [
        (datetime(2013, 7, 1, tzinfo=UTC), "2013-07-02", "2013-07-02"),
        (datetime(2013, 7, 1, tzinfo=UTC), None, "2013-07-01"),
        (None, None, "2013-07-04"),
    ],
)
def test_the_window_is_what_each_attempt_sees_alike(
    detect, context, dataset, interval_end, window_end, window
):
    context["dag_run"].data_interval_end = interval_end
    step = detect(
        drift_report(), window=None, dataset={**dataset.to_xcom(), "window_end": window_end}
    )
    assert step.call_args.kwargs["window"].startswith(window)


def test_a_model_version_knows_what_it_learned_from(detect, dataset, version):
    known = version(**{"mlops.profile_uri": "/w/known.json"})
    step = detect(drift_report(), dataset=dataset.to_xcom(), profile_uri=None, model_version=known)
    assert step.call_args.args == (dataset, "/w/known.json")


def test_without_a_profile_there_is_nothing_to_compare_with(context, run, dataset, version):
    given = {"task_id": "t", "dataset": dataset.to_xcom()}
    with pytest.raises(AirflowSkipException, match=r"models:/delay/2 .*without a profile"):
        DetectDriftOperator(**given, model_version=version()).execute(context)
    with pytest.raises(AirflowFailException, match="exactly one of profile_uri and model_version"):
        DetectDriftOperator(**given).execute(context)


def test_a_person_finds_the_page_behind_a_button(detect, context, run, dataset):
    assert DriftReportLink in map(type, DetectDriftOperator.operator_extra_links)
    run.client.tracking_uri = "http://mlflow"
    detect(drift_report("drifted", feature_drift("origin", 0.3)), dataset=dataset.to_xcom())
    context["ti"].xcom_push.assert_called_once_with(
        key="drift_report_url",
        value="http://mlflow/#/experiments/1/runs/run-1/artifacts/drift_report.html",
    )
    run.log_page.assert_called_once_with("<html>", "drift_report.html")
    run.log_metrics.assert_called_once_with({"share_drifted": 0.5, "max_psi": 0.3})


@pytest.mark.parametrize("retrain", [False, True])
def test_only_enough_drift_in_a_row_is_told(detect, context, dataset, retrain):
    features = [feature_drift("origin", 0.3), feature_drift("hour", 0.01)]
    report = drift_report("drifted", *features, streak=2, retrain=retrain)
    detect(report, dataset=dataset.to_xcom())
    add = context["outlet_events"].__getitem__.return_value.add
    if not retrain:
        add.assert_not_called()
        return
    (call,) = add.call_args_list
    assert call.args == (Asset("mlops-drift://flights"),)
    assert [each["feature"] for each in call.kwargs["extra"]["features"]] == ["origin"]


@pytest.mark.parametrize("verdict", ["drifted", "stable", "insufficient_data", "retrain"])
def test_only_the_tasks_of_the_outcome_are_followed(context, run, dataset, verdict):
    retrain = verdict == "retrain"
    report = drift_report("drifted" if retrain else verdict, retrain=retrain)
    with DAG("d"):
        follow = {each: f"on_{each}" for each in DetectDriftBranchOperator.outcomes}
        detect = DetectDriftBranchOperator(
            task_id="t", dataset=dataset.to_xcom(), profile_uri="/w/p.json", follow=follow
        )
        detect >> [BaseOperator(task_id=task) for task in follow.values()]
    check = DriftCheck("flights", report, "<html>", {})
    with (
        patch.object(drift_check, "check_drift", return_value=check),
        patch.object(detect, "do_branch") as branch,
    ):
        assert detect.execute(context) == report.to_xcom()
    branch.assert_called_once_with(context, [f"on_{verdict}"])
