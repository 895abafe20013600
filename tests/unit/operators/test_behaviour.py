from __future__ import annotations

from unittest.mock import patch

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.links import BehaviourLink
from airflow_mlops_provider.operators.behaviour import CheckModelBehaviourOperator
from airflow_mlops_provider.records import BehaviourReport, BehaviourResult
from airflow_mlops_provider.steps.behaviour.check import BehaviourCheck

STEPS = "airflow_mlops_provider.steps"
TESTS = [{"kind": "missing", "name": "m"}]


def check_of(outcome):
    result = BehaviourResult(
        name="m",
        kind="missing",
        severity="critical",
        outcome=outcome,
        n=4,
        failures=1,
        rate=0.25,
        rate_high=0.75,
        max_failure_rate=0.0,
        mean_shift=None,
        detail="1 of 4 rows break it",
    )
    report = BehaviourReport(
        model_uri="models:/a/1",
        dataset_uri="d",
        suite="s",
        outcome="passed" if outcome == "passed" else "failed",
        n_tests=1,
        n_failed=int(outcome == "failed"),
        n_errored=int(outcome == "errored"),
        tests=[result],
        report_uri="/w/r.json",
    )
    return BehaviourCheck(report, [result])


@pytest.fixture
def execute(context, run, dataset):
    run.client.tracking_uri = "http://mlflow"

    def call(outcome, **changes):
        given = {"model": "models:/a@challenger", "dataset": dataset.to_xcom(), "tests": TESTS}
        operator = CheckModelBehaviourOperator(task_id="t", workspace="/w", **given | changes)
        with (
            patch(f"{STEPS}.register.model_uri", return_value="models:/a/1") as found,
            patch(
                f"{STEPS}.behaviour.check.check_behaviour", return_value=check_of(outcome)
            ) as step,
        ):
            record = operator.execute(context)
        found.assert_called_once_with(run.client, "models:/a@challenger", optional=False)
        step.assert_called_once_with("models:/a/1", dataset, TESTS, workspace="/w", seed=0)
        return record

    return call


@pytest.mark.parametrize("outcome", ["passed", "failed", "errored"])
def test_the_report_is_kept_and_the_gate_decides(execute, context, run, outcome):
    report = check_of(outcome).report
    assert execute(outcome) == report.to_xcom()
    run.log_record.assert_called_once_with(report)
    html, name = run.log_page.call_args.args
    assert name == "behaviour.html"
    assert "models:/a/1" in html
    pushed = {
        call.kwargs["key"]: call.kwargs["value"] for call in context["ti"].xcom_push.mock_calls
    }
    assert pushed["report"] == report.to_xcom()
    assert pushed[BehaviourLink.xcom_key].endswith("/artifacts/behaviour.html")


@pytest.mark.parametrize("outcome", ["failed", "errored"])
def test_a_critical_test_may_fail_the_task_for_good(execute, run, outcome):
    with pytest.raises(AirflowFailException, match=rf"m \({outcome}\): 1 of 4 rows"):
        execute(outcome, fail_on="critical")
    run.log_page.assert_called_once()
    assert execute("passed", fail_on="critical")["outcome"] == "passed"


def test_wrong_arguments_are_named(execute):
    with pytest.raises(AirflowFailException, match="fail_on parameter"):
        execute("passed", fail_on="warning")
    with pytest.raises(AirflowFailException, match="ModelRef"):
        execute("passed", model={"uri": "x"})
    with pytest.raises(AirflowFailException, match="DatasetRef"):
        execute("passed", dataset=None)
