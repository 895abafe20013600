"""One request against one model: MLflow's scoring protocol, with blame laid where it belongs.

MLflow's own server answers 400 when the model raises and 200 when its output is nonsense, so
no error rate can see a bad model. Here a 4xx is the client's doing and a 5xx the model's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import validate_schema
from mlflow.pyfunc.scoring_server import infer_and_parse_data

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

T = TypeVar("T")
INVALID_INPUT = "InvalidInput"
OUTPUT_VIOLATION = "OutputSchemaViolation"
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class ScoringError(Exception):
    """A request that gets no predictions.

    Args:
        status: HTTP status of the answer.
        error_class: What the prediction log and the counters file it under.
        message: What was expected, what came, what to do.
    """

    def __init__(self, status: int, error_class: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_class = error_class

    @property
    def body(self) -> dict[str, str]:
        """The answer's JSON, worded as MLflow's server does."""
        code = "BAD_REQUEST" if self.status < 500 else "INTERNAL_ERROR"
        return {"error_code": code, "message": str(self)}


@dataclass(frozen=True)
class Scored:
    """What came of a request: JSON rows in, and JSON outputs or the reason there are none."""

    rows: list[dict[str, Any]]
    outputs: list[Any] | None
    error: ScoringError | None = None


def score(model: PyFuncModel, content_type: str, body: bytes) -> Scored:
    """Predict a request's rows; every way to fail ends in ``Scored.error``."""
    rows: list[dict[str, Any]] = []
    try:
        data = _parse(model, content_type, body)
        rows = _blaming_client(lambda: to_rows(data))
        if not rows:
            raise _invalid("Expected at least one row to predict, got none.")
        _require_signature(model, data)
        return Scored(rows, _checked_outputs(model, _predict(model, data), len(rows)))
    except ScoringError as error:
        return Scored(rows or [{}], None, error)


def to_rows(data: Any) -> list[dict[str, Any]]:
    """Return a model's input as one dict of JSON values per row; unnamed columns by number."""
    if isinstance(data, dict):
        data = pd.DataFrame({name: list(np.asarray(values)) for name, values in data.items()})
    if not isinstance(data, pd.DataFrame):
        data = pd.DataFrame(list(np.asarray(data)))
    names = [str(name) for name in data.columns]
    columns = [data[name].tolist() for name in data.columns]
    return [
        {name: to_json(value) for name, value in zip(names, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]


def to_json(value: Any) -> Any:
    """Return ``value`` as JSON can hold it; whatever is missing or not finite is null."""
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if value is pd.NaT or value is pd.NA:
        return None
    return value.isoformat() if isinstance(value, date) else str(value)


def _parse(model: PyFuncModel, content_type: str, body: bytes) -> Any:
    if content_type.partition(";")[0].strip() not in ("", "application/json"):
        raise _invalid(f"Expected content type application/json, got {content_type}.", 415)
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"Expected a JSON object, got {body[:80]!r} ({error}).") from error
    keys = sorted(payload) if isinstance(payload, dict) else []
    if len(keys) != 1 or keys[0] not in FORMATS:
        raise _invalid(
            f"Expected a JSON object with exactly one of {', '.join(FORMATS)}, got "
            f"{', '.join(keys) or type(payload).__name__}."
        )
    schema = _schema(model, "inputs")
    return _blaming_client(lambda: infer_and_parse_data(payload, schema))


def _schema(model: PyFuncModel, side: str) -> Any:
    return getattr(model.metadata.signature, side, None)


def _require_signature(model: PyFuncModel, data: Any) -> None:
    schema = _schema(model, "inputs")
    if schema is not None:
        _blaming_client(lambda: validate_schema(data, schema))


def _predict(model: PyFuncModel, data: Any) -> Any:
    try:
        return model.predict(data)
    except Exception as error:  # the model is foreign code: whatever it raises is its failure
        name = type(error).__name__
        raise ScoringError(500, name, f"The model raised {name}: {error}") from error


def _checked_outputs(model: PyFuncModel, raw: Any, n_rows: int) -> list[Any]:
    schema = _schema(model, "outputs")
    try:
        if schema is not None:
            validate_schema(raw, schema)
        outputs = _output_rows(raw)
        json.dumps(outputs, allow_nan=False)
    except (MlflowException, TypeError, ValueError) as error:
        raise _violation(f"The model's output does not fit its signature: {error}") from error
    if len(outputs) != n_rows:
        raise _violation(f"The model gave {len(outputs)} outputs for {n_rows} rows.")
    return outputs


def _output_rows(raw: Any) -> list[Any]:
    if isinstance(raw, pd.DataFrame):
        return list(json.loads(json.dumps(raw.to_dict("records"), default=to_json)))
    if isinstance(raw, (np.ndarray, pd.Series)):
        return list(raw.tolist())
    return list(json.loads(json.dumps(raw, default=to_json)))


def _blaming_client(call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception as error:  # whatever MLflow's parser stumbles over, the client sent it
        raise _invalid(str(error)) from error


def _invalid(message: str, status: int = 400) -> ScoringError:
    return ScoringError(status, INVALID_INPUT, message)


def _violation(message: str) -> ScoringError:
    return ScoringError(500, OUTPUT_VIOLATION, message)
