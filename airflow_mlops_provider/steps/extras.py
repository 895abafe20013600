"""Libraries that only some steps need."""

from __future__ import annotations

import importlib
from typing import Any

from airflow_mlops_provider.exceptions import ParameterError


def required(module: str, extra: str, purpose: str) -> Any:
    """Import ``module``, which comes with one of our extras.

    Raises:
        ParameterError: it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ParameterError(
            f"Expected the Python module {module} {purpose}, but it is not installed. Run "
            f"`pip install 'airflow-provider-mlops[{extra}]'`."
        ) from error
