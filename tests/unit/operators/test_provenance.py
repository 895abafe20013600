from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from airflow_mlops_provider.operators.provenance import dag_run_facts, task_facts, task_parameters
from airflow_mlops_provider.operators.train import TrainModelOperator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = "http://airflow/dags/flights/runs/r1"


def train(**given):
    arguments = {"dataset": {}, "estimator": dict, "features": ["hour"], "target": "late"}
    return TrainModelOperator(task_id="train", **(arguments | given))


@pytest.fixture
def context(tmp_path):
    file = tmp_path / "flights.py"
    file.write_text("dag")
    ti = SimpleNamespace(
        dag_id="flights",
        run_id="r1",
        task_id="train",
        map_index=2,
        try_number=3,
        dag_version_id="v-7",
        log_url=f"{PAGE}/tasks/train/mapped/2?try_number=3",
        bundle_instance=SimpleNamespace(name="repo", version=COMMIT, path=tmp_path),
    )
    event = SimpleNamespace(
        asset=SimpleNamespace(uri="mlops-drift://flights"),
        timestamp=datetime(2013, 2, 1, tzinfo=UTC),
        source_dag_id="monitoring",
        source_run_id="m1",
        source_task_id="detect",
        extra={"verdict": "drifted", "features": [{"feature": "hour"}]},
    )
    dag_run = SimpleNamespace(
        run_type="asset_triggered",
        triggering_user_name="ann",
        logical_date=None,
        data_interval_start=None,
        data_interval_end=None,
        conf={"month": "2013-02", "api_key": "hunter2"},
        consumed_asset_events=[event],
    )
    return {"ti": ti, "dag_run": dag_run, "dag": SimpleNamespace(fileloc=str(file))}


def test_a_pipelines_run_says_why_it_was_triggered_and_on_what_evidence(context):
    facts = dag_run_facts(context)
    assert (facts["airflow.run_type"], facts["airflow.triggering_user"]) == (
        "asset_triggered",
        "ann",
    )
    (event,) = json.loads(facts["airflow.asset_events"])
    assert (event["uri"], event["source_dag_id"]) == ("mlops-drift://flights", "monitoring")
    assert event["extra"] == {"verdict": "drifted"}


def test_the_code_is_named_by_commit_version_and_hash(context):
    facts = dag_run_facts(context)
    assert facts["mlops.git_commit"] == facts["mlflow.source.git.commit"] == COMMIT
    assert (facts["mlops.bundle_name"], facts["mlops.bundle_version"]) == ("repo", COMMIT)
    assert facts["mlops.dag_version"] == "v-7"
    assert len(facts["mlops.dag_file_hash"]) == len(facts["mlops.environment_hash"]) == 64
    assert facts["mlflow.source.name"] == "flights.py"
    assert facts["mlflow.user"] == "ann"


def test_the_version_of_a_bundle_that_is_no_commit_is_not_called_one(context):
    context["ti"].bundle_instance.version = "2013-02-01"
    assert "mlops.git_commit" not in dag_run_facts(context)


def test_mlflow_leads_back_to_the_dag_run_and_to_the_attempt(context):
    assert dag_run_facts(context)["airflow.url"] == PAGE
    facts = task_facts(train(), context)
    assert facts["airflow.url"] == context["ti"].log_url
    note = facts["mlflow.note.content"]
    assert f"[train[2], attempt 3]({context['ti'].log_url})" in note
    assert f"({PAGE})" in note
    assert facts["airflow.operator"].endswith("train.TrainModelOperator")


def test_secrets_are_masked_in_conf_and_arguments(context):
    told = dag_run_facts(context)["airflow.conf"]
    assert json.loads(told) == {"month": "2013-02", "api_key": "***"}
    given = task_parameters(train(estimator_params={"password": "hunter2", "depth": 3}))
    assert json.loads(given["task.estimator_params"]) == {"password": "***", "depth": 3}


def test_arguments_are_told_without_the_shared_ones_and_functions_by_name():
    given = task_parameters(train())
    assert given["task.estimator"] == "builtins.dict"
    assert given["task.features"] == '["hour"]'
    assert "task.workspace" not in given
    assert "task.mlflow_conn_id" not in given
