"""The flights model of level 0, trained again from a copy of its workspace."""

from __future__ import annotations

import shutil

import pytest

from airflow_mlops_provider.cli import main
from airflow_mlops_provider.records import ModelRef
from flights.landing import land_month


@pytest.fixture(scope="module")
def model(dag_bag, environment):
    """The model that level 0 trained, by hand and without deploying it."""
    land_month(environment["AIRFLOW__MLOPS__WORKSPACE"], "2013-01")
    given = {"month": "2013-01", "max_iter": 20, "deploy": False}
    run = dag_bag.get_dag("level0_manual_process").test(run_conf=given)
    (task,) = (ti for ti in run.get_task_instances() if ti.task_id == "train")
    return ModelRef.from_xcom(task.xcom_pull(task_ids="train", key="return_value"))


def test_the_flights_model_is_identical_from_a_clean_copy_of_the_workspace(
    model, environment, mlflow_server, tmp_path, capsys
):
    workspace = environment["AIRFLOW__MLOPS__WORKSPACE"]
    shutil.copytree(f"{workspace}/datasets", tmp_path / "copy" / "datasets")
    options = ["--tracking-uri", mlflow_server, "--workspace", str(tmp_path / "copy")]
    code = main(["reproduce", model.run_id, *options, "--no-log"])
    shown = capsys.readouterr().out
    assert code == 0, shown
    rows = int(model.metrics["train_rows"])
    assert f"{rows} of {rows} predictions are the same" in shown
    assert "auc on flights" in shown
