from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.operators.validate import ValidateDataOperator
from airflow_mlops_provider.records import ExpectationResult, ValidationReport

STEPS = "airflow_mlops_provider.steps.validate"
REPORT = ValidationReport(
    dataset_uri="/w/a.parquet",
    suite="flights",
    outcome="retrain",
    n_expectations=2,
    failures=[
        ExpectationResult(
            expectation="expect_column_to_exist",
            column="distance",
            severity="critical",
            errored=False,
            detail="no such column",
        )
    ],
    report_uri="/w/report.json",
)


@pytest.fixture
def validate(context, run, dataset):
    def validated(report):
        suite = {"name": "flights", "expectations": []}
        operator = ValidateDataOperator(
            task_id="t", dataset=dataset.to_xcom(), suite="s.yaml", workspace="/w"
        )
        with (
            patch(f"{STEPS}.load_suite", return_value=suite) as load,
            patch(f"{STEPS}.validate_dataset", return_value=report) as step,
        ):
            record = operator.execute(context)
        load.assert_called_once_with("s.yaml")
        step.assert_called_once_with(dataset, suite, suite_name="flights", workspace="/w")
        return record

    return validated


@pytest.mark.parametrize("outcome", ["passed", "warn", "retrain"])
def test_value_skew_is_a_record(validate, run, outcome):
    report = replace(REPORT, outcome=outcome)
    assert validate(report) == report.to_xcom()
    run.log_record.assert_called_once_with(report)


def test_schema_skew_fails_for_good_and_leaves_its_evidence(validate, context):
    report = replace(REPORT, outcome="stop")
    with pytest.raises(AirflowFailException, match=r"distance.*no such column.*/w/report\.json"):
        validate(report)
    context["ti"].xcom_push.assert_called_once_with(key="report", value=report.to_xcom())
