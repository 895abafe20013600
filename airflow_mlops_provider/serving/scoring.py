"""One request against one model: MLflow's scoring protocol, with blame laid where it belongs.

MLflow's own server answers 400 when the model raises and 200 when its output is nonsense, so
no error rate can see a bad model. Here a 4xx is the client's doing and a 5xx the model's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import validate_schema
from mlflow.pyfunc.scoring_server import (
    infer_and_parse_data,
    parse_csv_input,
    parse_parquet_input,
)
from mlflow.types import ParamSpec

from airflow_mlops_provider.serving.json_text import decode
from airflow_mlops_provider.serving.native import native_path
from airflow_mlops_provider.serving.rows import output_rows, to_rows

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

    from airflow_mlops_provider.serving.online import OnlineFeatures

T = TypeVar("T")
INVALID_INPUT = "InvalidInput"
OUTPUT_VIOLATION = "OutputSchemaViolation"
FEATURES_DOWN = "FeatureStoreUnavailable"
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
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

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return self.error.status if self.error else 200


class Predictor:
    """A model, and the quickest sound way to ask it.

    Args:
        model: A loaded model.
        native: Ask its estimator without pyfunc, if both prove to agree.
    """

    online: OnlineFeatures | None = None
    """Completes requests that hold the keys of entities only."""

    def __init__(self, model: PyFuncModel, *, native: bool = False) -> None:
        self.model = model
        signature = model.metadata.signature
        self.inputs: Any = getattr(signature, "inputs", None)
        self.outputs: Any = getattr(signature, "outputs", None)
        self.params: Any = getattr(signature, "params", None)
        self.native = native_path(model, self._by_pyfunc) if native else None

    def score(self, content_type: str, body: bytes) -> Scored:
        """Predict a request's rows; every way to fail ends in ``Scored.error``."""
        try:
            mime = media_type(content_type)
            return self.answer(decoded(body) if mime == JSON else self._table(mime, body))
        except ScoringError as error:
            return Scored([{}], None, error)

    def answer(self, payload: Any) -> Scored:
        """Predict the rows of a decoded request, or of a frame."""
        asked: list[dict[str, Any]] | None = None
        try:
            asked = self.online.asked(payload) if self.online else None
            if self.online is None or asked is None:
                return self._answer(payload)
            scored = self._answer(self.online.complete(asked))
        except ScoringError as error:
            return Scored(asked or [{}], None, error)
        pairs = zip(asked, scored.rows, strict=True)
        rows = [{**given, **completed} for given, completed in pairs]
        return Scored(rows, scored.outputs, scored.error)

    def _answer(self, payload: Any) -> Scored:
        rows: list[dict[str, Any]] = []
        try:
            native = self.native
            plain = native.read(payload) if native else None
            if native and plain:
                rows = plain.rows
                raw = _blaming_model(lambda: native.predict(plain.data))
            else:
                data, params = self._parsed(payload)
                rows = _blaming_client(lambda: to_rows(data))
                if not rows:
                    raise invalid("Expected at least one row to predict, got none.")
                self._require_signature(data)
                raw = _blaming_model(lambda: self._ask(data, params))
            return Scored(rows, self._checked(raw, len(rows)))
        except ScoringError as error:
            return Scored(rows or [{}], None, error)

    def _by_pyfunc(self, payload: Any) -> Any:
        data, params = self._parsed(payload)
        self._require_signature(data)
        return self._ask(data, params)

    def _ask(self, data: Any, params: dict[str, Any] | None) -> Any:
        return self.model.predict(data, params=params) if params else self.model.predict(data)

    def _table(self, mime: str, body: bytes) -> Any:
        if mime == PARQUET:
            parse: Any = parse_parquet_input  # it has no types
            return _blaming_client(lambda: parse(BytesIO(body)))
        columns = self.inputs is not None and not self.inputs.is_tensor_spec()
        schema: Any = self.inputs if columns else None
        return _blaming_client(lambda: parse_csv_input(StringIO(body.decode()), schema))

    def _parsed(self, payload: Any) -> tuple[Any, dict[str, Any] | None]:
        """Return the model's input and its parameters."""
        if isinstance(payload, pd.DataFrame):
            return payload, None
        keys = set(payload) if isinstance(payload, dict) else set()
        (form,) = keys - {"params"} if len(keys - {"params"}) == 1 else (None,)
        if form not in FORMATS:
            raise invalid(
                f"Expected a JSON object with exactly one of {', '.join(FORMATS)}, got "
                f"{', '.join(sorted(keys)) or type(payload).__name__}."
            )
        params = self._checked_params(payload.get("params"))
        data = {form: payload[form]}
        return _blaming_client(lambda: infer_and_parse_data(data, self.inputs)), params

    def _checked_params(self, given: Any) -> dict[str, Any] | None:
        """Return the parameters as the signature's types; one it does not have is refused."""
        if not given:
            return None
        known = {spec.name: spec for spec in self.params or ()}
        if not isinstance(given, dict) or not given.keys() <= known.keys():
            raise invalid(
                f"Expected params to be an object with names among {[*known]}, as in the model's "
                f"signature, got {given!r:.200}."
            )
        return {
            name: _blaming_client(partial(ParamSpec.validate_param_spec, value, known[name]))
            for name, value in given.items()
        }

    def _require_signature(self, data: Any) -> None:
        if self.inputs is not None:
            _blaming_client(lambda: validate_schema(data, self.inputs))

    def _checked(self, raw: Any, n_rows: int) -> list[Any]:
        try:
            if self.outputs is not None and not _is_array_of(raw, self.outputs):
                validate_schema(raw, self.outputs)
            outputs = output_rows(raw)
        except (MlflowException, TypeError, ValueError) as error:
            raise _violation(f"The model's output does not fit its signature: {error}") from error
        if len(outputs) != n_rows:
            raise _violation(f"The model gave {len(outputs)} outputs for {n_rows} rows.")
        return outputs


def media_type(content_type: str) -> str:
    """Return the media type of a request, of those MLflow's protocol has; none is JSON.

    Raises:
        ScoringError: it is another one (415), or in another character set than UTF-8.
    """
    mime, *parameters = (part.strip() for part in content_type.lower().split(";"))
    if (mime or JSON) not in (JSON, CSV, PARQUET):
        message = f"Expected content type {JSON}, {CSV} or {PARQUET}, got {content_type}."
        raise invalid(message, 415)
    if any(each.replace('"', "") not in ("", "charset=utf-8") for each in parameters):
        message = f"Expected no parameter but charset=utf-8, got content type {content_type}."
        raise invalid(message, 415)
    return mime or JSON


def decoded(body: bytes) -> Any:
    """Return the JSON value of a request's body.

    Raises:
        ScoringError: it is not JSON.
    """
    try:
        return decode(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"Expected a JSON object, got {body[:80]!r} ({error}).") from error


def _is_array_of(raw: Any, schema: Any) -> bool:
    """Tell at a glance that an output fits; False means that MLflow has to look."""
    if type(raw) is not np.ndarray or not schema.is_tensor_spec() or len(schema.inputs) != 1:
        return False
    spec = schema.inputs[0]
    fits = len(raw.shape) == len(spec.shape) and raw.dtype == spec.type
    return fits and all(want in (-1, got) for want, got in zip(spec.shape, raw.shape, strict=True))


def _blaming_model(call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception as error:  # the model is foreign code: whatever it raises is its failure
        name = type(error).__name__
        raise ScoringError(500, name, f"The model raised {name}: {error}") from error


def _blaming_client(call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception as error:  # whatever MLflow's parser stumbles over, the client sent it
        raise invalid(str(error)) from error


def invalid(message: str, status: int = 400) -> ScoringError:
    """Return the error of a request that is the client's to correct."""
    return ScoringError(status, INVALID_INPUT, message)


def _violation(message: str) -> ScoringError:
    return ScoringError(500, OUTPUT_VIOLATION, message)
