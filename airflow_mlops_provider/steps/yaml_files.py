"""Declarations that people keep in YAML or JSON files."""

from __future__ import annotations

from typing import Any

import fsspec
import yaml

from airflow_mlops_provider.exceptions import ParameterError


def read_yaml(path: str, parameter: str, caller: str) -> Any:
    """Return what the YAML or JSON file at ``path`` holds.

    Args:
        path: Path or fsspec URI.
        parameter: Which named it.
        caller: Who was given that parameter.

    Raises:
        ParameterError: there is no such file, or it is neither YAML nor JSON.
    """
    try:
        with fsspec.open(path, "rt", encoding="utf-8") as file:
            return yaml.safe_load(file)
    except FileNotFoundError as error:
        raise ParameterError.of(parameter, caller, "an existing file", path) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(
            f"{path} is neither YAML nor JSON: {error}. Correct it, or name another file."
        ) from error
