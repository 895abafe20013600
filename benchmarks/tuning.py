"""Thirty trials with two workers and with one, by `tune_model`, each in a new process.

The estimator, a random forest, fits in a single thread. Times are of `tune_model` alone, from
reading the dataset to the logged model, with the start of the worker processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from airflow_mlops_provider.steps.snapshot import write_dataset
from benchmarks import Measure, in_turns

SPEEDUP = 1.7
TRIALS = 30
FEATURES = [f"f{number}" for number in range(10)]


def run(quick: bool) -> list[Measure]:
    """Compare the wall seconds of the two."""
    rows, n = (1_500, 1) if quick else (12_000, 3)
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        frame = pd.DataFrame(rng.normal(size=(rows, len(FEATURES))), columns=FEATURES)
        noise = rng.normal(size=rows)
        frame["target"] = (frame["f0"] + frame["f1"] ** 2 + noise > 1).astype(float)
        dataset = json.dumps(write_dataset(frame, "rows", folder, "benchmark").to_xcom())
        two, one = in_turns(n, lambda: _seconds(dataset, 2), lambda: _seconds(dataset, 1))
    return [
        Measure(
            f"tuning: {TRIALS} trials",
            two,
            one,
            "s",
            f"2 workers >= {SPEEDUP} x as fast as 1",
            one >= SPEEDUP * two,
            n,
        )
    ]


def _seconds(dataset: str, workers: int) -> float:
    code = "import sys; from benchmarks.tuning import _child; _child(*sys.argv[1:])"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-c", code, folder, dataset, str(workers)]
        child = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return float(child.stdout.splitlines()[-1])


def _child(folder: str, dataset: str, workers: str) -> None:
    """Tune, and print the seconds it took."""
    import mlflow

    from airflow_mlops_provider.records import DatasetRef, SearchSpec, TrainingSpec
    from airflow_mlops_provider.steps.track import TaskRun, experiment_id
    from airflow_mlops_provider.steps.tune import tune_model, tuning

    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri, uri)
    experiment = experiment_id(client, "tuning", str(Path(folder, "artifacts")))
    run_of_task = TaskRun(client, client.create_run(experiment).info.run_id, experiment)
    spec = TrainingSpec(
        dataset=DatasetRef.from_xcom(json.loads(dataset)),
        estimator="sklearn.ensemble.RandomForestClassifier",
        features=FEATURES,
        target="target",
        params={"n_estimators": 50, "n_jobs": 1},
    )
    space = {
        "max_depth": {"type": "int", "low": 4, "high": 12},
        "min_samples_leaf": {"type": "int", "low": 1, "high": 50, "log": True},
    }
    search = SearchSpec(space=space, n_trials=TRIALS, n_workers=int(workers))
    assert tuning  # imported, as a task has by then
    start = time.perf_counter()
    tune_model(spec, search, run=run_of_task, workspace=folder)
    sys.stdout.write(f"{time.perf_counter() - start}\n")
