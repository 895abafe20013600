"""What differs between a training and the same training done again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from airflow_mlops_provider.records import DatasetRef, Difference, PredictionComparison
from airflow_mlops_provider.steps.environment import environment
from airflow_mlops_provider.steps.fingerprint import logical_hash
from airflow_mlops_provider.steps.model_log import CODE_TAG
from airflow_mlops_provider.steps.snapshot import read_table
from airflow_mlops_provider.workspace import exists, file_hash

if TYPE_CHECKING:
    from mlflow.entities import Run
    from numpy.typing import NDArray

    from airflow_mlops_provider.steps.reproduce_recorded import Training

ABSENT = "absent"
_DURATION = re.compile(r"(seconds|duration|_time|_ms)$")
_TASK_PARAM = "task."
"""Prefix of the arguments of an operator, which are not those of a model."""
_PLAIN = (bool, int, float, str, type(None))


def environment_differences(training: Training) -> Iterator[Difference]:
    """Yield what is installed here in another version; the model's own packages matter."""
    here = environment()
    needed = {_canonical(name): found for name, found in training.requirements.items()}
    recorded = (training.environment or {}).get("packages", {})
    for name, before in sorted({**recorded, **needed}.items()):
        now = str(here["packages"].get(name, ABSENT))
        if now != before:
            yield Difference(
                kind="environment",
                name=name,
                recorded=str(before),
                found=now,
                matters=name in needed,
            )
    python = str((training.environment or {}).get("python") or training.python)
    if python != here["python"]:
        yield Difference(
            kind="environment",
            name="python",
            recorded=python,
            found=here["python"],
            matters=False,
        )


def dataset_differences(dataset: DatasetRef) -> Iterator[Difference]:
    """Yield how the file at the dataset's URI is not the one that was recorded.

    Raises:
        DataError: there is no file, or it cannot be read.
    """
    found = file_hash(dataset.uri) if exists(dataset.uri) else dataset.file_hash
    if found != dataset.file_hash:
        yield Difference(
            kind="dataset",
            name=f"{dataset.name} (file hash)",
            recorded=dataset.file_hash,
            found=found,
        )
    table = read_table(dataset)
    if found != dataset.file_hash:
        rows = logical_hash(table)
        yield Difference(
            kind="dataset",
            name=f"{dataset.name} (rows)",
            recorded=f"{dataset.n_rows} rows, {dataset.logical_hash}",
            found=f"{table.num_rows} rows, {rows}",
            matters=rows != dataset.logical_hash,
        )


def code_differences(recorded: Run, again: Run) -> Iterator[Difference]:
    """Yield the source files of the estimator that have changed."""
    before, now = (json.loads(run.data.tags.get(CODE_TAG, "{}")) for run in (recorded, again))
    yield from _mapping("code", before, now)


def parameter_differences(
    recorded: Run, again: Run, model: Any, model_again: Any
) -> Iterator[Difference]:
    """Yield arguments of the training, and then parameters of the estimator, that differ."""
    before, now = (
        {name: value for name, value in run.data.params.items() if not name.startswith(_TASK_PARAM)}
        for run in (recorded, again)
    )
    told = list(_mapping("parameter", before, now))
    yield from told
    names = {each.name for each in told}
    for each in _mapping("parameter", _parameters(model), _parameters(model_again)):
        if each.name.rpartition("__")[2] not in names and each.name not in names:
            yield each


def metric_differences(
    kind: Literal["metric", "evaluation"], before: Mapping[str, float], now: Mapping[str, float]
) -> Iterator[Difference]:
    """Yield metrics that are not equal to the last bit; durations are left out."""
    yield from _mapping(kind, compared(before), compared(now))


def compared(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that a repetition should give again."""
    return {name: value for name, value in metrics.items() if not _DURATION.search(name)}


def compare_predictions(before: NDArray[Any], now: NDArray[Any]) -> PredictionComparison:
    """Compare two predictions of the same rows, shape (n,) or (n, classes)."""
    n = len(before)
    if before.shape != now.shape or before.dtype.kind != now.dtype.kind:
        return PredictionComparison(n=n, differing=n, largest=None)
    same = before == now
    if before.dtype.kind != "f":
        return PredictionComparison(n=n, differing=_rows_with(~same), largest=None)
    same |= np.isnan(before) & np.isnan(now)
    largest = np.abs(before - now)[~same].max(initial=0.0)
    return PredictionComparison(
        n=n,
        differing=_rows_with(~same),
        largest=float(largest) if np.isfinite(largest) else None,
    )


def _rows_with(marked: NDArray[np.bool_]) -> int:
    return int(marked.reshape(len(marked), -1).any(axis=1).sum())


def prediction_difference(found: PredictionComparison) -> Difference | None:
    """Word how predictions differ, if they do."""
    if not found.differing:
        return None
    largest = "" if found.largest is None else f", by at most {found.largest:.3g}"
    return Difference(
        kind="predictions",
        name="predictions",
        recorded=f"{found.n} rows",
        found=f"{found.differing} of {found.n} rows differ{largest}",
    )


def _mapping(kind: Any, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*before, *now}):
        if name not in before or name not in now or before[name] != now[name]:
            yield Difference(
                kind=kind,
                name=name,
                recorded=str(before.get(name, ABSENT)),
                found=str(now.get(name, ABSENT)),
            )


def _parameters(model: Any) -> dict[str, str]:
    found = model.get_params() if hasattr(model, "get_params") else {}
    return {name: repr(value) for name, value in found.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
