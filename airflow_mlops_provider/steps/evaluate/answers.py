"""Load any MLflow model, and take its answers as numbers."""

from __future__ import annotations

from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.types import DataType

from airflow_mlops_provider.exceptions import MlflowUnavailableError, ModelError
from airflow_mlops_provider.steps.registry_errors import is_outage

_DAMAGES = (
    FileNotFoundError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    ImportError,
    AttributeError,
    BadZipFile,
    UnpicklingError,
)
"""What loaders raise on files that are gone or broken; an outage is none of these."""

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def load_model(model_uri: str) -> Any:
    """Load a pyfunc model of the registry or of a run.

    Raises:
        ModelError: the URI is of neither, nothing is registered there, or its files are missing or
            broken. Model files are code, so nothing else is loaded.
        MlflowUnavailableError: MLflow does not do its part.
    """
    import airflow_mlops_provider.steps.skops_io  # noqa: F401 - first, so that it is quiet

    if not model_uri.startswith(("models:/", "runs:/")):
        raise ModelError(
            f"Expected a model of the registry ('models:/…') or of a run ('runs:/…'), got "
            f"{model_uri!r}. Loading a model runs its code: register it first."
        )
    try:
        return mlflow.pyfunc.load_model(model_uri)
    except MlflowException as error:
        if is_outage(error):
            raise MlflowUnavailableError(f"MLflow did not give {model_uri!r}: {error}") from error
        raise ModelError(
            f"Expected an MLflow model at {model_uri!r}, got: {error}. Check the name, version "
            "or alias in the registry."
        ) from error
    except _DAMAGES as error:
        raise ModelError(
            f"The files of {model_uri!r} cannot be loaded: {type(error).__name__}: {error}. They "
            "are damaged, or need packages that are not installed: train or register it again."
        ) from error


def predict_score(model: Any, frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return one number a row, shape (n,): the last class's probability, or the prediction."""
    answers = predict_answers(model, frame)
    return answers if answers.ndim == 1 else np.asarray(answers[:, -1])


def predict_answers(model: Any, frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return the prediction or the probability of class 1, shape (n,), or of each of k > 2, (n, k).

    Raises:
        ModelError: a column of the model's signature is missing or of another type, or it answered
            with something else than finite numbers for each row.
    """
    names = signature_names(model)
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise ModelError(
            f"Expected columns {missing} for the model, got {sorted(frame.columns)}. Give it the "
            "features it was trained on."
        )
    output = _numbers(model, frame[names])
    if output.ndim not in (1, 2) or output.shape[0] != len(frame):
        raise ModelError(f"Expected {len(frame)} predictions, got an output of {output.shape}.")
    if not np.isfinite(output).all():
        rows = np.flatnonzero(~np.isfinite(output.reshape(len(frame), -1)).all(axis=1))
        raise ModelError(
            f"Expected finite answers, got NaN or infinity for {len(rows)} of {len(frame)} rows, "
            f"the first at row {rows[0]}."
        )
    if output.ndim == 2 and output.shape[1] <= 2:
        return np.asarray(output[:, -1])
    return output


def _numbers(model: Any, inputs: pd.DataFrame) -> NDArray[np.float64]:
    try:
        return np.asarray(model.predict(_typed(model, inputs)), dtype=float)
    except (MlflowException, ValueError, TypeError) as error:
        raise ModelError(
            f"Expected numbers from the model, got {type(error).__name__}: {error}. Give it "
            "columns of the types it was trained on, and log it so that it predicts numbers."
        ) from error


def _typed(model: Any, inputs: pd.DataFrame) -> pd.DataFrame:
    """Turn whole numbers into the floats that a signature asks for; MLflow does not."""
    schema = model.metadata.get_input_schema()
    kinds = dict(zip(schema.input_names(), schema.input_types(), strict=True))
    whole = inputs.select_dtypes(include=["integer", "bool"]).columns
    floats = [name for name in whole if kinds[name] in (DataType.double, DataType.float)]
    return inputs.astype(dict.fromkeys(floats, float)) if floats else inputs


def signature_names(model: Any, name: str = "the model") -> list[str]:
    """Return the columns of a model's signature; ``name`` is what errors call it.

    Raises:
        ModelError: it has none, or they have no names.
    """
    schema = model.metadata.get_input_schema()
    if schema is None or not schema.has_input_names():
        raise ModelError(
            f"Expected a signature with named columns in {name}, got {schema}. Log the model with "
            "`signature=infer_signature(...)`."
        )
    return [str(name) for name in schema.input_names()]
