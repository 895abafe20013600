from __future__ import annotations

import pytest

from airflow_mlops_provider.hooks.settings import workspace_uri


@pytest.mark.parametrize(
    ("configured", "found"),
    [
        ("", "/home/me/airflow/mlops"),
        ("kept", "/home/me/airflow/kept"),
        ("../kept/", "/home/me/kept"),
        ("/kept", "/kept"),
        ("~/kept", "/home/airflow/kept"),
        ("s3://bucket/mlops", "s3://bucket/mlops"),
    ],
)
def test_workspace_is_the_same_from_every_folder(monkeypatch, tmp_path, configured, found):
    monkeypatch.setenv("HOME", "/home/airflow")
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/home/me/airflow/dags")
    monkeypatch.setenv("AIRFLOW__MLOPS__WORKSPACE", configured)
    here = workspace_uri()
    monkeypatch.chdir(tmp_path)
    assert here == workspace_uri() == found
