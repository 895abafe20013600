"""What serving a model costs: latency of one real row, time to load, size on disk."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np

from airflow_mlops_provider.records import ModelCost
from airflow_mlops_provider.steps.evaluate.answers import load_model, predict_answers

if TYPE_CHECKING:
    import pandas as pd

_WARM_UP, _MIN_CALLS, _MAX_CALLS, _SECONDS = 2, 10, 30, 0.1


def load_measured(model_uri: str) -> tuple[Any, float]:
    """Return the model and the seconds it took to load."""
    start = time.perf_counter()
    return load_model(model_uri), time.perf_counter() - start


def measure_cost(model: Any, model_uri: str, row: pd.DataFrame, load_seconds: float) -> ModelCost:
    """Ask the model for one row again and again, once it warmed up.

    That is 30 times, but no more once 0.1 s went by and it was asked ten times.

    Args:
        model: The loaded model.
        model_uri: Where its files are.
        row: One real row, shape (1, k).
        load_seconds: What loading it took.
    """
    for _ in range(_WARM_UP):
        predict_answers(model, row)
    seconds: list[float] = []
    while len(seconds) < _MAX_CALLS and (len(seconds) < _MIN_CALLS or sum(seconds) < _SECONDS):
        start = time.perf_counter()
        predict_answers(model, row)
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.quantile(seconds, [0.5, 0.95]) * 1000
    return ModelCost(
        latency_p50_ms=float(p50),
        latency_p95_ms=float(p95),
        load_seconds=load_seconds,
        size_mb=_size_mb(model_uri),
    )


def _size_mb(model_uri: str) -> float:
    with TemporaryDirectory() as folder:
        files = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=folder)).rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file()) / 1e6
