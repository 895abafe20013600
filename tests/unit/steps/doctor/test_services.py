from __future__ import annotations

import pytest
from mlflow import MlflowClient

from airflow_mlops_provider.stack.service import free_ports
from airflow_mlops_provider.steps import track
from airflow_mlops_provider.steps.doctor.services import (
    ask_mlflow,
    look_for_features,
    look_into_workspace,
)


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_mlflow_is_asked_for_runs_and_aliases(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri, uri)
    experiment = track.experiment_id(client, "flights", str(tmp_path / "artifacts"))
    assert ask_mlflow(uri).found == {"runs": [], "tracked": [], "aliases": []}
    pipeline = {"airflow.dag_id": "flights", "airflow.run_id": "r1"}
    track.start_pipeline_run(client, experiment, pipeline, name="r1", extra_tags={})
    client.create_registered_model("m")
    version = client.create_model_version("m", str(tmp_path), run_id=None)
    client.set_registered_model_alias("m", "champion", version.version)
    found = ask_mlflow(uri)
    assert found.state == "answered"
    assert found.found == {
        "runs": ["newest run flights r1, RUNNING"],
        "tracked": ["newest run r1"],
        "aliases": ["m@champion is version 1"],
    }


def test_an_embedded_mlflow_that_is_not_there_is_unknown_and_not_made(tmp_path):
    found = ask_mlflow(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    assert found.state == "unknown"
    assert list(tmp_path.iterdir()) == []


def test_an_mlflow_that_is_down_is_unknown():
    (port,) = free_ports(1)
    found = ask_mlflow(f"http://127.0.0.1:{port}")
    assert found.state == "unknown"
    assert "MLflow does not answer" in found.reason


@pytest.mark.parametrize("ask", [ask_mlflow, look_into_workspace, look_for_features])
def test_what_nobody_named_was_not_asked(ask):
    assert "was not asked" in ask(None).reason


def test_the_workspace_shows_logs_and_reports_by_endpoint(tmp_path):
    assert look_into_workspace(str(tmp_path)).found == {
        "prediction_logs": [],
        "monitoring_reports": [],
    }
    touch(
        tmp_path,
        "serving/logs/a/v1-1.jsonl",
        "serving/logs/a/v1-2.open",
        "predictions/b/parts/x.parquet",
        "reports/monitoring/a/latest.json",
    )
    assert look_into_workspace(str(tmp_path)).found == {
        "prediction_logs": ["2 files of a", "1 file of b"],
        "monitoring_reports": ["1 file of a"],
    }


@pytest.mark.parametrize("workspace", ["/does/not/exist", "nosuchprotocol://x"])
def test_a_workspace_that_cannot_be_read_is_unknown(workspace):
    assert look_into_workspace(workspace).state == "unknown"
    assert look_for_features(workspace).state == "unknown"


def test_an_applied_feature_repository_has_a_registry(tmp_path):
    assert look_for_features(str(tmp_path)).state == "unknown"
    touch(tmp_path, "feast/flights/registry.db")
    assert look_for_features(str(tmp_path)).found == {"registries": ["project flights is applied"]}
