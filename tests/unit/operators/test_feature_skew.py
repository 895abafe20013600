from __future__ import annotations

from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.operators import features
from airflow_mlops_provider.operators.feature_skew import CheckFeatureSkewOperator
from airflow_mlops_provider.records import FeatureSkew, FeatureSkewReport, PredictionBatchRef

STEPS = "airflow_mlops_provider.steps.features.skew"
PREDICTIONS = PredictionBatchRef(uri="/w/p.parquet", n_rows=1, file_hash="f", model_versions=[])


@pytest.fixture
def store(monkeypatch):
    hook = MagicMock()
    monkeypatch.setattr(features, "FeastHook", hook)
    return hook.return_value.get_conn.return_value


def skew_report(verdict, mode="online"):
    feature = FeatureSkew(
        feature="temp",
        verdict=verdict,
        n=4,
        n_different=1,
        share=0.25,
        largest_difference=None,
        n_only_offline=1,
        n_only_online=0,
        n_expired=0,
        n_newer=0,
        offline_type="float",
        online_type=None,
        type_changed=False,
        materialized_until=None,
    )
    return FeatureSkewReport(
        mode=mode,
        source_uri="/w/a.parquet",
        verdict=verdict,
        n_rows=4,
        n_left_out=0,
        n_features=1,
        skewed=["temp"] if verdict == "skewed" else [],
        not_logged=[],
        tolerance=1e-6,
        max_share=0.0,
        features=[feature],
    )


def operator(**changes):
    return CheckFeatureSkewOperator(
        task_id="t", repo_path="repo", workspace="/w", feature_service="s", **changes
    )


def test_entities_are_compared_with_the_online_store(context, run, store, dataset):
    report = skew_report("same")
    check = operator(entities=dataset.to_xcom(), at="2013-02-01", max_share="0.1")
    with patch(f"{STEPS}.compare_online", return_value=report) as step:
        assert check.execute(context) == report.to_xcom()
    step.assert_called_once_with(
        store,
        dataset,
        at="2013-02-01",
        count_expired=True,
        feature_service="s",
        features=None,
        tolerance=1e-6,
        max_share=0.1,
    )
    run.log_record.assert_called_once_with(report)
    html, name = run.log_page.call_args.args
    assert name == "feature_skew.html"
    assert "temp" in html


def test_logged_features_are_compared_with_the_offline_truth(context, run, store):
    report = skew_report("insufficient_data", "logged")
    check = operator(mode="logged", predictions=PREDICTIONS.to_xcom(), keys={"tank": "input.id"})
    with patch(f"{STEPS}.compare_logged", return_value=report) as step:
        assert check.execute(context)["verdict"] == "insufficient_data"
    assert step.call_args.args == (store, PREDICTIONS)
    assert step.call_args.kwargs["keys"] == {"tank": "input.id"}


def test_skew_fails_for_good_and_names_the_features(context, run, store, dataset):
    check = operator(entities=dataset.to_xcom())
    report = skew_report("skewed")
    with (
        patch(f"{STEPS}.compare_online", return_value=report),
        pytest.raises(AirflowFailException, match=r"temp \(25.0% of 4 rows, float offline"),
    ):
        check.execute(context)
    run.log_page.assert_called_once()
    context["ti"].xcom_push.assert_called_once_with(key="report", value=report.to_xcom())


def test_skew_may_be_left_for_the_dag_to_act_on(context, run, store, dataset):
    check = operator(entities=dataset.to_xcom(), fail_on_skew=False)
    with patch(f"{STEPS}.compare_online", return_value=skew_report("skewed")):
        assert check.execute(context)["verdict"] == "skewed"


def test_an_unknown_mode_is_named(context, run, store):
    with pytest.raises(AirflowFailException, match=r"mode parameter.*'both'"):
        operator(mode="both").execute(context)
    with pytest.raises(AirflowFailException, match="DatasetRef"):
        operator().execute(context)


def test_the_moment_is_the_end_of_the_data_interval_by_default():
    check = operator()
    check.render_template_fields({"data_interval_end": "b", "dag": MagicMock()})
    assert check.at == "b"
