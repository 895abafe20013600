"""Log a fitted scikit-learn model to MLflow: first on disk, then uploaded, and READY last.

A model that was not uploaded whole stays PENDING or becomes FAILED. Its requirements are the
versions it was fitted with, so MLflow need not start a process to infer them; and its input
example is saved without being scored once more in a simulated server (some 3 s).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import packages_distributions, version
from pathlib import Path
from pickle import PicklingError
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]  # it has no types
import mlflow
import numpy as np
from mlflow.entities import LoggedModelOutput, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature, infer_signature
from sklearn.base import is_classifier

from airflow_mlops_provider.exceptions import ModelError, ParameterError
from airflow_mlops_provider.steps.skops_io import dumps, get_untrusted_types

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import LoggedModel

    from airflow_mlops_provider.records import TrainingSpec
    from airflow_mlops_provider.steps.track import TaskRun

REQUIREMENTS = ("scikit-learn", "pandas", "numpy", "scipy")
TRUSTED = ("sklearn.", "numpy.", "functools.partial")
"""Whose types a saved model may hold; the function inside a partial is audited by itself."""
CODE_TAG = "mlops.code"
"""Tag of a run: the files under ``code/`` that its estimator came from, to their sha256."""
_KNOWN = {"sklearn": "scikit-learn", "numpy": "numpy", "pandas": "pandas", "scipy": "scipy"}
_SAMPLE_ROWS = 5
_UNSAVABLE = (TypeError, AttributeError, RecursionError, PicklingError)


def log_params(run: TaskRun, params: Mapping[str, Any]) -> None:
    """Log parameters in one request."""
    rows = [Param(name, str(value)) for name, value in params.items()]
    run.client.log_batch(run.run_id, params=rows)


def log_model_metrics(run: TaskRun, model_id: str, metrics: Mapping[str, float]) -> None:
    """Log the metrics of a model in one request, after :func:`require_finite`."""
    import time

    require_finite(metrics)
    now = int(time.time() * 1000)
    rows = [Metric(name, value, now, 0, model_id=model_id) for name, value in metrics.items()]
    run.client.log_batch(run.run_id, metrics=rows)


def require_finite(metrics: Mapping[str, float]) -> None:
    """Refuse metrics that are no numbers.

    Raises:
        ModelError: a metric is NaN or infinite, which names it.
    """
    bad = {name: value for name, value in metrics.items() if not np.isfinite(value)}
    if bad:
        raise ModelError(
            f"Expected finite metrics, got {bad}. The model has diverged: lower its learning "
            "rate, or look for extreme values in its features and target."
        )


def log_code(run: TaskRun, sources: Iterable[Callable[..., Any]]) -> None:
    """Keep the files in which classes and functions were written that no package brought."""
    files = {file for source in sources if (file := _own_file(source))}
    for file in files:
        run.client.log_artifact(run.run_id, str(file), "code")
    if files:
        hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        run.client.set_tag(run.run_id, CODE_TAG, json.dumps(hashes, sort_keys=True))


def log_model(model: Any, features: pd.DataFrame, spec: TrainingSpec, run: TaskRun) -> LoggedModel:
    """Log ``model`` as the only one of ``run``.

    Args:
        model: A fitted estimator.
        features: Rows it learned from; the first five become the input example.
        spec: How to save it.
        run: The open MLflow run.

    Raises:
        ModelError: it contains types that nobody trusted, cannot be saved, or predicts NaN.
        ParameterError: a path of ``code_paths`` does not exist.
    """
    options = _options(model, features.head(_SAMPLE_ROWS), spec)
    with TemporaryDirectory(prefix="mlops-model-") as folder, _logged_model(run) as logged:
        path = str(Path(folder) / "model")
        described = Model(
            artifact_path=logged.artifact_location,
            run_id=run.run_id,
            model_id=logged.model_id,
            model_uuid=logged.model_id,
        )
        _save(model, path, mlflow_model=described, **options)
        run.client.log_model_artifacts(logged.model_id, path)
    return logged


def _save(model: Any, path: str, **options: Any) -> None:
    try:
        mlflow.sklearn.save_model(model, path, **options)
    except _UNSAVABLE as error:
        raise ModelError(
            f"{options['serialization_format']} cannot save {type(model).__name__}: {error}. "
            "Take out of the model what cannot be saved: connections, locks, open files."
        ) from error
    except (MlflowException, OSError) as error:
        # MLflow says of a full disk that the model cannot be serialized
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        raise OSError(
            cause.errno,
            f"The model could not be written ({cause.strerror}). Make room on the worker",
            path,
        ) from error


@contextmanager
def _logged_model(run: TaskRun) -> Iterator[LoggedModel]:
    """Give a new logged model of ``run``: READY after the block, FAILED after an exception.

    What an earlier process logged to this same run before it died is deleted.
    """
    found = run.client.get_run(run.run_id)
    for left in found.outputs.model_outputs if found.outputs else []:
        with suppress(MlflowException):  # deleted already
            run.client.delete_logged_model(left.model_id)
    logged = run.client.create_logged_model(
        run.experiment_id, "model", source_run_id=run.run_id, params=found.data.params
    )
    run.client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, 0)])
    try:
        yield logged
    except BaseException:
        with suppress(MlflowException):  # the first error is the one to be told
            run.client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    run.client.finalize_logged_model(logged.model_id, "READY")


def _options(model: Any, sample: pd.DataFrame, spec: TrainingSpec) -> dict[str, Any]:
    missing = [path for path in spec.code_paths if not Path(path).exists()]
    if missing:
        raise ParameterError.of("code_paths", "train", "existing files or folders", missing)
    scores = is_classifier(model) and hasattr(model, "predict_proba")
    predict = "predict_proba" if scores else "predict"
    saved = {"skops_trusted_types": _trusted(model, spec)} if spec.serialization == "skops" else {}
    return {
        "signature": _signature(sample, getattr(model, predict)(sample)),
        "input_example": _plain(sample),
        "pyfunc_predict_fn": predict,
        "pip_requirements": requirements(model, spec.serialization),
        "serialization_format": spec.serialization,
        "code_paths": spec.code_paths or None,
        **saved,
    }


def _signature(sample: pd.DataFrame, predictions: Any) -> ModelSignature:
    predictions = np.asarray(predictions)
    if predictions.dtype.kind == "f" and not np.isfinite(predictions).all():
        raise ModelError(
            f"Expected finite predictions, got {predictions.ravel()[:3].tolist()} on rows the "
            "model learned from. It has diverged: lower its learning rate, or scale its features."
        )
    return infer_signature(_plain(sample), predictions)


def _plain(sample: pd.DataFrame) -> pd.DataFrame:
    """Return rows as they come at serving time: categories as text, whole numbers as floats.

    Floats, because a missing value may come.
    """
    numbers = sample.select_dtypes(include=["integer", "bool"]).columns
    categories = sample.select_dtypes(include=["category"]).columns
    return sample.astype({**dict.fromkeys(numbers, float), **dict.fromkeys(categories, object)})


def _trusted(model: Any, spec: TrainingSpec) -> list[str]:
    try:
        unknown = get_untrusted_types(data=dumps(model))
    except _UNSAVABLE as error:
        raise ModelError(
            f"skops cannot save {type(model).__name__}: {error}. Replace what it cannot save, or "
            "ask for serialization='cloudpickle' if all who load the model trust its code."
        ) from error
    foreign = [
        name for name in unknown if not name.startswith(TRUSTED) and name not in spec.trusted_types
    ]
    if foreign:
        raise ModelError(
            f"The model contains types that are not trusted: {foreign}. Name them in "
            "`trusted_types` if you know them, because loading a model runs their code."
        )
    return list(unknown)


def requirements(model: Any, serialization: str) -> list[str]:
    """Return ``name==version`` of each package whose classes or functions the model holds."""
    roots = _packages_within(model) - _KNOWN.keys() - sys.stdlib_module_names
    found = packages_distributions() if roots else {}  # 0.5 s
    names = {*REQUIREMENTS, serialization, *(found[root][0] for root in roots if root in found)}
    return [f"{name}=={version(name)}" for name in sorted(names)]


def _packages_within(model: Any) -> set[str]:
    listener = _Listener(_Nowhere())
    with suppress(*_UNSAVABLE):  # whoever saves the model says so
        listener.dump(model)
    return listener.packages


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)


class _Listener(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Hears where the classes and functions in an object come from."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.packages: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        for each in (obj, type(obj)):
            module = getattr(each, "__module__", None)
            if isinstance(module, str):
                self.packages.add(module.partition(".")[0])
        return super().reducer_override(obj)


def _own_file(source: Callable[..., Any]) -> Path | None:
    """Return the file of a class or function, unless a package or Python itself brought it."""
    try:
        file = Path(inspect.getsourcefile(inspect.unwrap(source)) or "")
    except TypeError:
        return None
    paths = sysconfig.get_paths()
    brought = (paths[name] for name in ("purelib", "platlib", "stdlib"))
    if not file.is_file() or any(file.is_relative_to(folder) for folder in brought):
        return None
    return file
