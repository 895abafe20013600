"""What MLflow's errors say about the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
    ErrorCode,
)

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException

_ABSENT = {ErrorCode.Name(code) for code in (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE)}
_OUTAGES = {ErrorCode.Name(code) for code in (INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE)}


def is_absent(error: MlflowException) -> bool:
    """Tell whether MLflow says that there is no such model, version or alias."""
    return error.error_code in _ABSENT


def is_outage(error: MlflowException) -> bool:
    """Tell whether MLflow did not answer, or not as it should: a retry may help."""
    return error.error_code in _OUTAGES
