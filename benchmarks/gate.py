"""The gate, two evaluations and the verdict, over what raw ``predict`` calls on the rows cost.

Both sides load both models and read the rows once for each. The models are gradient boosting of
500 iterations; no permutation importance, all pictures.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd

from airflow_mlops_provider.records import DatasetRef, EvaluationSpec, ModelRef, TrainingSpec
from airflow_mlops_provider.steps.evaluate import load_model
from airflow_mlops_provider.steps.evaluate.judge import evaluate_model
from airflow_mlops_provider.steps.gate import Rule, judge_challenger
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
from airflow_mlops_provider.steps.track import TaskRun
from airflow_mlops_provider.steps.train import train_model
from benchmarks import Measure, in_turns

N_FEATURES, TRAIN_ROWS, ITERATIONS, MAX_OVERHEAD = 20, 20_000, 500, 0.10
FEATURES = [f"x{number}" for number in range(N_FEATURES)]
BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"


class Gate:
    """Two models in an MLflow store, and the rows they are judged on."""

    def __init__(self, folder: str, n_rows: int) -> None:
        uri = f"sqlite:///{folder}/mlflow.db"
        mlflow.set_tracking_uri(uri)
        self._client = mlflow.MlflowClient(uri, uri)
        artifacts = str(Path(folder) / "artifacts")
        self._experiment = self._client.create_experiment("gate", artifact_location=artifacts)
        self._folder = folder
        self._rows = _rows(n_rows, 0, folder)
        training = _rows(TRAIN_ROWS, 1, folder)
        self._models = [self._trained(training, seed) for seed in (0, 1)]

    def ours(self) -> float:
        """Return the seconds of the evaluations and the verdict."""
        start = time.perf_counter()
        spec = EvaluationSpec(dataset=self._rows, target="y")
        challenger, champion = (
            evaluate_model(model.model_uri, spec, workspace=self._folder, run=self._run())
            for model in self._models
        )
        judge_challenger(challenger, champion, Rule())
        return time.perf_counter() - start

    def theirs(self) -> float:
        """Return the seconds of loading and asking each model."""
        start = time.perf_counter()
        for model in self._models:
            load_model(model.model_uri).predict(read_dataset(self._rows)[FEATURES])
        return time.perf_counter() - start

    def _trained(self, dataset: DatasetRef, seed: int) -> ModelRef:
        spec = TrainingSpec(
            dataset=dataset,
            estimator=BOOSTING,
            features=FEATURES,
            target="y",
            params={"max_iter": ITERATIONS, "early_stopping": False},
            seed=seed,
        )
        return train_model(spec, run=self._run())

    def _run(self) -> TaskRun:
        run = self._client.create_run(self._experiment).info.run_id
        return TaskRun(self._client, run, self._experiment)


def run(quick: bool) -> list[Measure]:
    """Take 200,000 rows when quick, else a million."""
    n_rows, n = (200_000, 1) if quick else (1_000_000, 3)
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(folder, n_rows)
        ours, theirs = in_turns(n, gate.ours, gate.theirs)
    return [
        Measure(
            name=f"gate: {n_rows:,} rows",
            ours=ours,
            theirs=theirs,
            unit="s",
            goal=f"at most {MAX_OVERHEAD:.0%} more than predict",
            holds=ours <= (1 + MAX_OVERHEAD) * theirs,
            n=n,
        )
    ]


def _rows(n_rows: int, seed: int, folder: str) -> DatasetRef:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n_rows, N_FEATURES)), columns=FEATURES)
    chance = 1 / (1 + np.exp(-frame["x0"] - frame["x1"] * frame["x2"]))
    frame["y"] = (rng.random(n_rows) < chance).astype(float)
    return write_dataset(frame, f"rows{seed}", folder, "benchmark")
