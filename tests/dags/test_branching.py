"""``validate >> [stop, retrain, proceed]``: exactly the tasks of the outcome run."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup, task
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlops_provider.operators import ValidateDataBranchOperator
from airflow_mlops_provider.records import ValidationReport

BUNDLE = "branching"
FOLLOW = {"stop": "alert", "retrain": "retrain", "warn": "proceed", "passed": "proceed"}


def suite(severity, maximum=2):
    entry = {
        "type": "expect_column_max_to_be_between",
        "kwargs": {"column": "n", "max_value": maximum},
        "severity": severity,
    }
    return {"name": "s", "expectations": [entry]}


@pytest.fixture
def states(airflow_db, tmp_path, monkeypatch):
    bundle = {
        "name": BUNDLE,
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(tmp_path)},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    monkeypatch.setenv("AIRFLOW__MLOPS__WORKSPACE", str(tmp_path / "workspace"))
    pd.DataFrame({"n": [1, 2, 3]}).to_parquet(tmp_path / "rows.parquet")

    def ran(dag):
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

        DagBundlesManager().sync_bundles_to_db()
        bag = BundleDagBag(str(tmp_path), bundle_name=BUNDLE, bundle_path=tmp_path)
        bag.bag_dag(dag)
        sync_bag_to_db(bag, BUNDLE, None)
        run = dag.test()
        return {each.task_id: each.state for each in run.get_task_instances()}

    return ran


def branches(name, tmp_path, follow=FOLLOW, **arguments):
    with DAG(name) as dag:
        validate = ValidateDataBranchOperator(
            task_id="validate", source=str(tmp_path / "rows.parquet"), follow=follow, **arguments
        )
        ends = [EmptyOperator(task_id=each) for each in ("alert", "retrain", "proceed")]
        validate >> ends
    return dag


@pytest.mark.parametrize(
    ("severity", "maximum", "runs"),
    [
        ("critical", 2, "alert"),
        ("warning", 2, "retrain"),
        ("info", 2, "proceed"),
        ("critical", 3, "proceed"),
    ],
)
def test_exactly_the_tasks_of_the_outcome_run(states, tmp_path, severity, maximum, runs):
    found = states(branches(f"{severity}_{maximum}", tmp_path, suite=suite(severity, maximum)))
    assert found.pop("validate") == "success"
    expected = dict.fromkeys(["alert", "retrain", "proceed"], "skipped")
    assert found == {**expected, runs: "success"}


def test_without_an_entry_stop_fails_the_task(states, tmp_path):
    found = states(branches("no_stop", tmp_path, {"passed": "proceed"}, suite=suite("critical")))
    assert found.pop("validate") == "failed"
    assert set(found.values()) == {"upstream_failed"}


def test_an_outcome_without_an_entry_is_named(states, tmp_path, capfd):
    found = states(branches("no_entry", tmp_path, {"stop": "alert"}, suite=suite("warning")))
    assert found["validate"] == "failed"
    assert "The outcome is 'retrain'" in capfd.readouterr().out


@pytest.mark.parametrize("follow", [{"passed": "nobody"}, {"pased": "proceed"}])
def test_a_wrong_entry_is_named(states, tmp_path, capfd, follow):
    dag = branches(f"wrong_{next(iter(follow))}", tmp_path, follow, suite=suite("critical", 3))
    assert states(dag)["validate"] == "failed"
    assert "The follow parameter of ValidateDataBranchOperator must be about" in (
        capfd.readouterr().out
    )


def test_tasks_of_the_same_group_come_first_and_the_record_stays_the_value(states, tmp_path):
    with DAG("grouped") as dag, TaskGroup("gate"):
        validate = ValidateDataBranchOperator(
            task_id="validate",
            source=str(tmp_path / "rows.parquet"),
            suite=suite("warning"),
            follow={"retrain": ["retrain", "outside"]},
        )
        ends = [EmptyOperator(task_id=each) for each in ("retrain", "proceed")]

        @task
        def read(record):
            assert ValidationReport.from_xcom(record).outcome == "retrain"

        validate >> [*ends, read.override(task_id="outside")(validate.output)]
    found = states(dag)
    assert found == {
        "gate.validate": "success",
        "gate.retrain": "success",
        "gate.proceed": "skipped",
        "gate.outside": "success",
    }


def test_expectation_objects_survive_airflow_and_a_function_does_as_well(states, tmp_path):
    import great_expectations.expectations as gxe

    objects = [gxe.ExpectColumnMaxToBeBetween(column="n", max_value=2, severity="warning")]

    def written_later():
        return objects

    for name, given in (("objects", objects), ("function", written_later)):
        dag = branches(name, tmp_path, suite=given)
        assert DagSerialization.to_dict(dag) == DagSerialization.to_dict(dag)
        assert states(dag)["retrain"] == "success"
