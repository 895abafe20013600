"""Read which environments there are."""

from __future__ import annotations

import yaml
from fsspec.core import open as open_uri

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.records import PipelineEnvironment
from airflow_mlops_provider.workspace import checked_name


def read_environments(uri: str) -> list[PipelineEnvironment]:
    """Return the environments of a YAML or JSON file, a list, in the order of delivery.

    Raises:
        DataError: the file is missing, is no list, or names an environment twice.
        RecordError: an entry is no ``PipelineEnvironment``.
        ParameterError: a name has other characters than letters, digits, ``.``, ``_`` and ``-``.
    """
    try:
        with open_uri(uri, "rt") as file:
            listed = yaml.safe_load(file)
    except (FileNotFoundError, yaml.YAMLError) as error:
        raise DataError(f"{uri} must be a YAML or JSON list of environments: {error}") from error
    if not isinstance(listed, list) or not listed:
        raise DataError(
            f"{uri} must be a list of environments with at least one; got "
            f"{type(listed).__name__}. Begin each with `- name:`."
        )
    environments = PipelineEnvironment.several_from_xcom(listed)
    names = [checked_name(each.name, "name", "PipelineEnvironment") for each in environments]
    if len(set(names)) < len(names):
        raise DataError(f"{uri} names an environment twice: {names}. Give each its own name.")
    return environments
