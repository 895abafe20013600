"""A step in a Python environment of its own: what goes there, and what comes back.

``python -m airflow_mlops_provider.steps.remote REQUEST ANSWER`` reads a request, calls the step
and writes the answer, both JSON files (paths or fsspec URIs). It exits with 0 once an answer is
written, also one that tells of an error; what the step logs and prints is its output. With
``--with-parent`` it and its children end when its standard input closes.

The request names a function of ``airflow_mlops_provider.steps``, its arguments, the MLflow store
and the open run. Credentials are not in it: MLflow reads them from its environment variables.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider import exceptions, records
from airflow_mlops_provider.exceptions import MlopsError, ParameterError, StepFailedError

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.track import TaskRun

_STEPS = "airflow_mlops_provider.steps"
_STEP = re.compile(r"[a-z]\w*(\.[a-z]\w*)+")
_RECORD = "$record"
_PACKAGES = (
    "scikit-learn",
    "mlflow",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "fsspec",
    "scipy",
    "skops",
)
_MORE_PACKAGES = {"tune": ("optuna",), "export": ("onnxruntime", "skl2onnx")}
ISOLATED = ("train", "tune", "evaluate", "predict", "predict_parts", "export")
"""Steps whose operators have a ``runtime``."""


def requirements_of(step: str) -> list[str]:
    """Return what a step's environment needs beside this package, as installed here.

    Args:
        step: One of ``ISOLATED``.
    """
    names = (*_PACKAGES, *_MORE_PACKAGES.get(step, ()))
    return [f"{name}=={found}" for name in names if (found := _installed(name))]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def request_of(
    step: str,
    arguments: Sequence[Any],
    named: Mapping[str, Any],
    *,
    tracking_uri: str,
    run: TaskRun | None,
) -> dict[str, Any]:
    """Return the request to call ``step`` with these arguments.

    Raises:
        ParameterError: an argument is neither a record nor a JSON value.
    """
    return {
        "step": step,
        "arguments": [_encoded(value, f"argument {n}") for n, value in enumerate(arguments, 1)],
        "named": {name: _encoded(value, name) for name, value in named.items()},
        "tracking_uri": tracking_uri,
        "run": run
        and {
            "run_id": run.run_id,
            "experiment_id": run.experiment_id,
            "pipeline_id": run.pipeline_id,
        },
    }


def result_of(answer: Mapping[str, Any], run: TaskRun | None = None) -> Any:
    """Return what the step returned; ``run`` then knows what the step logged to it.

    Raises:
        PermanentError: the step raised it; of the same class.
        ParameterError: the environment lacks a package.
        StepFailedError: the step raised something else.
    """
    if run is not None:
        logged = _decoded(answer["logged"])
        run.records += logged["records"]
        run.datasets += map(tuple, logged["datasets"])
    error = answer.get("error")
    if error is None:
        return _decoded(answer["value"])
    kind = getattr(exceptions, error["type"], None)
    if isinstance(kind, type) and issubclass(kind, MlopsError):
        raise kind(error["message"])
    if error["type"] == ModuleNotFoundError.__name__:
        raise lacking(error["message"])
    raise StepFailedError(
        f"The step failed with {error['type']}: {error['message']}. The traceback is in the log."
    )


def lacking(message: str) -> ParameterError:
    """Word what to do about a package that the environment of the step does not have."""
    return ParameterError(
        f"The environment of the step lacks a package ({message}). Install there what `python -m "
        f"{_STEPS} requirements STEP` lists, and what the estimator imports."
    )


def call(request: Mapping[str, Any]) -> dict[str, Any]:
    """Call the step of a request and return the answer."""
    import mlflow

    mlflow.set_tracking_uri(request["tracking_uri"])
    mlflow.set_registry_uri(request["tracking_uri"])
    run = _run(request)
    try:
        named = {name: _decoded(value) for name, value in request["named"].items()}
        if run is not None:
            named["run"] = run
        value = _step(request["step"])(*map(_decoded, request["arguments"]), **named)
        answer = {"value": _encoded(value, "the answer")}
    except Exception as error:
        logging.getLogger(__name__).exception("The step %s failed", request["step"])
        answer = {"error": {"type": type(error).__name__, "message": str(error)}}
    if run is not None:
        logged = {"records": run.records, "datasets": run.datasets}
        answer["logged"] = _encoded(logged, "the answer")
    return answer


def _run(request: Mapping[str, Any]) -> TaskRun | None:
    if request["run"] is None:
        return None
    from mlflow import MlflowClient

    from airflow_mlops_provider.steps.track import TaskRun

    uri = request["tracking_uri"]
    return TaskRun(MlflowClient(uri, uri), **request["run"])


def _step(name: str) -> Any:
    module, _, function = name.rpartition(".")
    found = None
    if _STEP.fullmatch(name):
        found = getattr(importlib.import_module(f"{_STEPS}.{module}"), function, None)
    if not callable(found) or not found.__module__.startswith(_STEPS):
        raise ParameterError.of("step", "an isolated step", f"a function of {_STEPS}", name)
    return found


def _encoded(value: Any, name: str) -> Any:
    if isinstance(value, records.Record):
        return {_RECORD: type(value).__name__, "fields": asdict(value)}
    if isinstance(value, Mapping):
        return {str(key): _encoded(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(item, name) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    constraint = "a record or a JSON value to go to another environment"
    if callable(value):
        constraint += "; give a function or class by its import path, 'package.module.name'"
    raise ParameterError.of(name, "an isolated step", constraint, value)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _RECORD not in value:
        return {key: _decoded(item) for key, item in value.items()}
    kind = getattr(records, value[_RECORD], None)
    if not (isinstance(kind, type) and issubclass(kind, records.Record)):
        raise ParameterError.of(_RECORD, "an isolated step", "a record's name", value[_RECORD])
    return kind.from_xcom(value["fields"])


def _end_with_parent() -> None:
    """Kill this process and its children when whoever holds our standard input is gone."""

    def wait() -> None:
        while os.read(0, 1):  # not sys.stdin: its lock would crash the interpreter's end
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer one request."""
    from airflow_mlops_provider.workspace import read_json, write_json

    parser = argparse.ArgumentParser(prog=f"python -m {_STEPS}.remote")
    parser.add_argument("request")
    parser.add_argument("answer")
    parser.add_argument("--with-parent", action="store_true")
    options = parser.parse_args(arguments)
    if options.with_parent:
        _end_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    write_json(options.answer, call(read_json(options.request)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
