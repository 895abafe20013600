"""Where a cluster finds the files of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from airflow_mlops_provider.exceptions import ModelError, ParameterError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SCHEMES = ("s3", "gs", "abfs", "abfss", "https", "http", "hdfs", "webhdfs", "pvc", "hf", "oci")
_REGISTERED = "models:/"


def storage_uri(client: MlflowClient, model_uri: str, prefixes: Mapping[str, str]) -> str:
    """Return the URI under which KServe's storage initializer downloads a registered model.

    Args:
        client: The registry.
        model_uri: ``models:/name/version``.
        prefixes: What replaces the beginning of the artifact location, the first that fits, such
            as ``{"mlflow-artifacts:/": "s3://bucket/mlflow/"}``.

    Raises:
        ModelError: the registry has no such version.
        ParameterError: KServe cannot download from its location.
    """
    location = _location(client, model_uri)
    for prefix, replacement in prefixes.items():
        if location.startswith(prefix):
            location = replacement + location.removeprefix(prefix)
            break
    if not location.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES)):
        constraint = f"a prefix of {location!r} to an object store or volume that pods can read"
        raise ParameterError.of("storage_prefixes", "a KServe target", constraint, dict(prefixes))
    return location


def _location(client: MlflowClient, model_uri: str) -> str:
    name, _, version = model_uri.removeprefix(_REGISTERED).rpartition("/")
    if not model_uri.startswith(_REGISTERED) or not version.isdigit():
        raise ModelError(f"Expected a model version ('models:/name/3'), got {model_uri!r}.")
    try:
        location = client.get_model_version_download_uri(name, version)
        if location.startswith(_REGISTERED):
            model = client.get_logged_model(location.removeprefix(_REGISTERED))
            location = model.artifact_location
    except MlflowException as error:
        raise ModelError(f"The registry does not have {model_uri!r}: {error}.") from error
    return str(location)
