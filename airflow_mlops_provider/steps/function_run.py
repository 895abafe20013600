"""What is recorded of a function that works in an MLflow run: its arguments and its result."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.exceptions import MlflowException

from airflow_mlops_provider.exceptions import RecordError
from airflow_mlops_provider.records import DatasetRef, Record
from airflow_mlops_provider.steps.model_log import log_params

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.track import TaskRun

OUTPUTS = "outputs.json"


@contextmanager
def active_run(run: TaskRun) -> Iterator[None]:
    """Let ``run`` be the one that ``mlflow.log_metric`` and its siblings write to."""
    mlflow.start_run(run_id=run.run_id)
    try:
        yield
    except BaseException:
        with suppress(MlflowException):  # the first error is the one to be told
            mlflow.end_run("FAILED")
        raise
    mlflow.end_run()


def log_arguments(run: TaskRun, arguments: Mapping[str, Any]) -> None:
    """Log datasets as inputs, and texts, numbers and flags as parameters.

    A ``DatasetRef``, also one within a mapping (a ``SplitRef``, say), gets the name of its
    argument as context: ``dataset``, ``split.train``.
    """
    for name, value in arguments.items():
        for context, dataset in _datasets(name, value):
            run.log_dataset(dataset, context)
    scalars = {key: value for key, value in arguments.items() if _is_scalar(value)}
    if scalars:
        log_params(run, scalars)


def log_result(run: TaskRun, result: Any) -> Any:
    """Keep what a function returned, and return it in the form that an XCom takes.

    A record becomes its dict, and is kept as a record; any other value that JSON can hold is
    kept as ``outputs.json``. Nothing becomes a metric: the function logs those itself.
    """
    if isinstance(result, Record):
        run.log_record(result)
        return result.to_xcom()
    if result is not None and _is_json(result):
        run.client.log_text(run.run_id, json.dumps(result, indent=2), OUTPUTS)
    return result


def _datasets(name: str, value: Any) -> Iterator[tuple[str, DatasetRef]]:
    if isinstance(value, DatasetRef):
        yield name, value
    elif isinstance(value, Mapping):
        try:
            yield name, DatasetRef.from_xcom(value)
        except RecordError:
            for key, each in value.items():
                yield from _datasets(f"{name}.{key}", each)


def _is_scalar(value: Any) -> bool:
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, str | int)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
