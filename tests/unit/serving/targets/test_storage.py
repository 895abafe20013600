from __future__ import annotations

from unittest.mock import MagicMock

import pytest
from mlflow.exceptions import MlflowException

from airflow_mlops_provider.exceptions import ModelError, ParameterError
from airflow_mlops_provider.serving.targets.storage import storage_uri

PREFIXES = {"mlflow-artifacts:/": "s3://mlflow/", "/mnt/": "pvc://models/"}


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("s3://b/1/models/m-1/artifacts", "s3://b/1/models/m-1/artifacts"),
        ("mlflow-artifacts:/1/models/m-1", "s3://mlflow/1/models/m-1"),
        ("/mnt/mlflow/1", "pvc://models/mlflow/1"),
    ],
)
def test_a_version_is_found_where_pods_can_download_it(location, found):
    client = MagicMock()
    client.get_model_version_download_uri.return_value = location
    assert storage_uri(client, "models:/my model/3", PREFIXES) == found
    client.get_model_version_download_uri.assert_called_once_with("my model", "3")


def test_a_logged_model_is_followed_to_its_files():
    client = MagicMock()
    client.get_model_version_download_uri.return_value = "models:/m-17"
    client.get_logged_model.return_value.artifact_location = "gs://b/m-17"
    assert storage_uri(client, "models:/m/3", {}) == "gs://b/m-17"
    client.get_logged_model.assert_called_once_with("m-17")


@pytest.mark.parametrize("location", ["/home/me/mlruns/1", "mlflow-artifacts:/1", "file:///a"])
def test_files_that_no_pod_reaches_are_refused(location):
    client = MagicMock()
    client.get_model_version_download_uri.return_value = location
    with pytest.raises(ParameterError, match="storage_prefixes"):
        storage_uri(client, "models:/m/3", {})


@pytest.mark.parametrize("uri", ["runs:/1/model", "models:/m@champion", "models:/m-123"])
def test_only_versions_of_the_registry_are_served(uri):
    with pytest.raises(ModelError, match="Expected a model version"):
        storage_uri(MagicMock(), uri, {})


def test_a_version_that_is_not_there_is_told():
    client = MagicMock()
    client.get_model_version_download_uri.side_effect = MlflowException("not found")
    with pytest.raises(ModelError, match="does not have 'models:/m/3'"):
        storage_uri(client, "models:/m/3", {})
