"""Turn a scikit-learn model into ONNX, and prove on rows that it still gives the same answers.

Conversion is skl2onnx's. Trees compare a feature with thresholds, and ONNX Runtime does some of it
in single precision, so that a model converted without complaint may answer otherwise: nothing is
delivered that was not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.types import DataType

from airflow_mlops_provider.exceptions import ModelError
from airflow_mlops_provider.steps.evaluate.answers import predict_answers
from airflow_mlops_provider.steps.extras import required

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MATRIX = "X"
"""Name of the only input of a model that takes all features as one matrix."""
_NUMBERS = {DataType.double, DataType.float, DataType.integer, DataType.long, DataType.boolean}
_WHOLE = {DataType.integer, DataType.long, DataType.boolean}


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A model as ONNX, and how it is asked."""

    model: bytes
    output: str
    """Name of the output that gives the pyfunc's answers."""
    max_difference: float
    n_compared: int


@dataclass(frozen=True, kw_only=True)
class NotConverted:
    """Why a model could not become ONNX."""

    reason: str
    max_difference: float | None = None
    n_compared: int = 0


def to_onnx(
    estimator: Any, pyfunc: Any, rows: pd.DataFrame, tolerance: float
) -> Converted | NotConverted:
    """Convert a fitted estimator; doubles are tried first, then single precision.

    Args:
        estimator: The scikit-learn estimator behind ``pyfunc``.
        pyfunc: What it has to agree with, with a signature of named columns.
        rows: Rows that both are asked, at least one.
        tolerance: Largest difference of an answer a, as a share of 1 + abs(a).

    Raises:
        ParameterError: skl2onnx or onnxruntime is not installed.
    """
    skl2onnx = required("skl2onnx", "onnx", "to export as ONNX")
    required("onnxruntime", "onnx", "to export as ONNX")
    expected = predict_answers(pyfunc, rows)
    best = NotConverted(reason="ONNX was not tried")
    for inputs in _inputs(estimator, pyfunc.metadata.get_input_schema()):
        options = {"zipmap": False} if hasattr(estimator, "classes_") else None
        try:
            proto = skl2onnx.to_onnx(estimator, initial_types=inputs, options=options, name="model")
            found = _agreement(proto.SerializeToString(), rows, expected)
        except Exception as error:  # noqa: BLE001 - converters and the runtime raise anything
            text = " ".join(str(error).split())[:300]
            best = NotConverted(reason=f"skl2onnx or ONNX Runtime: {type(error).__name__}: {text}")
            continue
        if found.max_difference <= tolerance:
            return found
        best = NotConverted(
            reason=f"its answers differ by up to {found.max_difference:.3g} on "
            f"{found.n_compared} rows, {tolerance:g} is allowed",
            max_difference=found.max_difference,
            n_compared=found.n_compared,
        )
    return best


def native_estimator(folder: str, flavors: Mapping[str, Any]) -> Any:
    """Load the scikit-learn estimator of a model's files, or return None if it is none."""
    if "sklearn" not in flavors:
        return None
    import mlflow

    import airflow_mlops_provider.steps.skops_io  # noqa: F401 - first, so that it is quiet

    return mlflow.sklearn.load_model(folder)


def feed(session: Any, rows: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Return the inputs of a session, one matrix or one column each, from rows."""
    kinds = {"tensor(double)": np.float64, "tensor(float)": np.float32, "tensor(int64)": np.int64}
    given = {}
    for each in session.get_inputs():
        columns = rows if each.name == MATRIX and MATRIX not in rows else rows[[each.name]]
        given[each.name] = columns.to_numpy(kinds.get(each.type, object))
    return given


def _inputs(estimator: Any, schema: Any) -> Iterator[list[tuple[str, Any]]]:
    """Yield what the model may be asked with, in double and in single precision."""
    types = required("skl2onnx.common.data_types", "onnx", "to export as ONNX")
    named = _by_name(estimator)
    for number in (types.DoubleTensorType, types.FloatTensorType):
        if not named:
            yield [(MATRIX, number([None, len(schema.input_names())]))]
            continue
        yield [
            (name, _tensor(types, kind, number))
            for name, kind in zip(schema.input_names(), schema.input_types(), strict=True)
        ]


def _tensor(types: Any, kind: DataType, number: Any) -> Any:
    if kind in _WHOLE:
        return types.Int64TensorType([None, 1])
    return number([None, 1]) if kind in _NUMBERS else types.StringTensorType([None, 1])


def _by_name(estimator: Any) -> bool:
    """Tell whether an estimator picks its columns by name (in a ColumnTransformer)."""
    from sklearn.compose import ColumnTransformer

    parts = [step for _, step in getattr(estimator, "steps", [])] or [estimator]
    return any(isinstance(part, ColumnTransformer) for part in parts)


def _agreement(model: bytes, rows: pd.DataFrame, expected: NDArray[np.float64]) -> Converted:
    """Ask ONNX Runtime the same rows, and find the output that is closest."""
    runtime = required("onnxruntime", "onnx", "to export as ONNX")
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    answers = dict(zip(names, session.run(names, feed(session, rows)), strict=True))
    differences = {name: _difference(each, expected) for name, each in answers.items()}
    output = min(differences, key=differences.__getitem__)
    if not np.isfinite(differences[output]):
        shapes = {name: np.shape(each) for name, each in answers.items()}
        raise ModelError(f"no output of {shapes} has the pyfunc's shape {expected.shape}")
    return Converted(
        model=model,
        output=output,
        max_difference=differences[output],
        n_compared=len(rows),
    )


def _difference(answers: Any, expected: NDArray[np.float64]) -> float:
    """Return the largest difference, as a share of 1 + abs(expected); inf if none is defined."""
    try:
        found = np.asarray(answers, dtype=float)
    except (TypeError, ValueError):
        return float("inf")
    if expected.ndim == 1 and found.ndim == 2 and found.shape[1] <= 2:
        found = found[:, -1]
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.max(np.abs(found - expected) / (1 + np.abs(expected)), initial=0.0))
