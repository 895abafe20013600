from __future__ import annotations

from dataclasses import replace
from unittest.mock import call, patch

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_mlops_provider.links import DataDocsLink
from airflow_mlops_provider.operators.validate import ValidateDataOperator
from airflow_mlops_provider.records import (
    ExpectationResult,
    PredictionBatchRef,
    ValidationReport,
)
from airflow_mlops_provider.steps.validate import Validation

STEPS = "airflow_mlops_provider.steps"
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
            task_id="t", dataset=dataset.to_xcom(), suite="s.yaml", columns=["n"], workspace="/w"
        )
        found = Validation(report, [])
        with (
            patch(f"{STEPS}.suites.load_suite", return_value=suite) as load,
            patch(f"{STEPS}.validate.validate", return_value=found) as step,
        ):
            record = operator.execute(context)
        load.assert_called_once_with("s.yaml")
        step.assert_called_once_with(
            dataset, suite, suite_name="flights", workspace="/w", columns=["n"]
        )
        return record

    return validated


@pytest.mark.parametrize("outcome", ["passed", "warn", "retrain"])
def test_value_skew_is_a_record(validate, run, outcome):
    report = replace(REPORT, outcome=outcome)
    assert validate(report) == report.to_xcom()
    run.log_record.assert_called_once_with(report)


def test_schema_skew_fails_for_good_and_leaves_its_evidence(validate, context, run):
    run.client.tracking_uri = "http://mlflow"
    report = replace(REPORT, outcome="stop")
    with pytest.raises(AirflowFailException, match=r"distance.*no such column.*/w/report\.json"):
        validate(report)
    url = "http://mlflow/#/experiments/1/runs/run-1/artifacts/data_docs.html"
    assert context["ti"].xcom_push.call_args_list == [
        call(key=DataDocsLink.xcom_key, value=url),
        call(key="report", value=report.to_xcom()),
    ]
    html, name = run.log_page.call_args.args
    assert (name, "flights" in html) == ("data_docs.html", True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of dataset, source, table, predictions.*none of them"),
        ({"source": "s", "table": "t"}, "exactly one.*source and table"),
        ({"table": "t"}, "The conn_id parameter.*given with a table"),
    ],
)
def test_one_thing_is_validated(context, run, arguments, message):
    operator = ValidateDataOperator(task_id="t", suite="s.yaml", **arguments)
    with pytest.raises(AirflowFailException, match=message):
        operator.execute(context)


def test_a_table_is_reached_by_its_connection(context, run, monkeypatch):
    postgres = "postgresql://u:secret@127.0.0.1/d"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres)
    operator = ValidateDataOperator(
        task_id="t", suite="s.yaml", conn_id="warehouse", table="t", schema="s"
    )
    with (
        patch(f"{STEPS}.suites.load_suite", return_value={"name": "flights"}),
        patch(f"{STEPS}.validate.validate", return_value=Validation(REPORT, [])) as step,
    ):
        operator.execute(context)
    table = step.call_args.args[0]
    assert (table.name, table.schema, table.uri) == ("t", "s", "postgresql://127.0.0.1/d#s.t")
    assert "secret" in table.url
    assert "secret" not in repr(table)


def predictions(n_rows):
    return PredictionBatchRef(
        uri="/w/p.parquet", n_rows=n_rows, file_hash="f", model_versions=[]
    ).to_xcom()


def test_serving_inputs_are_held_to_the_suite_of_the_training_data(context, run, version):
    operator = ValidateDataOperator(
        task_id="t",
        predictions=predictions(3),
        model_version=version(**{"mlops.suite_uri": "/w/known.yaml"}),
    )
    with (
        patch(f"{STEPS}.suites.load_suite", return_value={"name": "known"}) as load,
        patch(f"{STEPS}.validate.validate", return_value=Validation(REPORT, [])),
    ):
        operator.execute(context)
    load.assert_called_once_with("/w/known.yaml")


@pytest.mark.parametrize(
    ("suite", "n_rows", "error", "said"),
    [
        ({}, 3, AirflowFailException, "exactly one of suite and model_version"),
        ({"model_version": "v2"}, 3, AirflowSkipException, "without a suite"),
        ({"suite": "s.yaml"}, 0, AirflowSkipException, "no predictions"),
    ],
)
def test_without_suite_or_predictions_there_is_nothing_to_do(
    context, run, version, suite, n_rows, error, said
):
    given = {**suite, "predictions": predictions(n_rows)}
    if "model_version" in given:
        given["model_version"] = version()
    with pytest.raises(error, match=said):
        ValidateDataOperator(task_id="t", **given).execute(context)
