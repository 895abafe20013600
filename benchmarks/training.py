"""What `TrainModelOperator` costs over the same training in a plain script with MLflow.

Both run in new processes, in turns: the same fit, signature, requirements and skops with its types
trusted, into an MLflow store in SQLite; the script logs no input example, which would cost it
some seconds more. The large fit is measured in seconds of wall clock from reading the rows to the
end, the tiny one in CPU seconds; what both sides import, and Airflow, is imported before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops_provider.records import DatasetRef
from airflow_mlops_provider.steps.snapshot import write_dataset
from benchmarks import Measure, in_turns

SHARE = 1.05
CPU_SECONDS = 2.0
COLUMNS = 20
ESTIMATOR = "sklearn.ensemble.HistGradientBoostingClassifier"


def run(quick: bool) -> list[Measure]:
    """Compare wall seconds on 1M x 20 rows, and CPU seconds on 1,000."""
    large, n = (100_000, 1) if quick else (1_000_000, 5)
    with tempfile.TemporaryDirectory() as folder:
        wall = _compared(Path(folder), large, {"max_iter": 100}, n, "wall")
        cpu = _compared(Path(folder), 1_000, {"max_iter": 5}, n, "cpu")
    return [
        Measure(
            f"training: {large // 1000}k x {COLUMNS}",
            *wall,
            "s",
            f"ours <= {SHARE} x the plain script",
            wall[0] <= SHARE * wall[1],
            n,
        ),
        Measure(
            f"training: 1k x {COLUMNS}",
            *cpu,
            "CPU s",
            f"ours <= the plain script + {CPU_SECONDS:.0f} s",
            cpu[0] <= cpu[1] + CPU_SECONDS,
            n,
        ),
    ]


def _compared(
    folder: Path, rows: int, params: dict[str, Any], n: int, unit: str
) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"f{number}": rng.normal(size=rows) for number in range(COLUMNS)})
    frame["late"] = (frame["f0"] + frame["f1"] ** 2 + rng.normal(size=rows) > 1).astype(int)
    dataset = write_dataset(frame, "flights", str(folder), "benchmark")

    def measured(side: str) -> float:
        arguments = json.dumps({"dataset": dataset.to_xcom(), "params": params})
        with tempfile.TemporaryDirectory(dir=folder) as home:
            return _in_process(side, arguments, home)[unit]

    return in_turns(n, lambda: measured("ours"), lambda: measured("theirs"))


def _in_process(side: str, arguments: str, home: str) -> dict[str, float]:
    environment = {
        **os.environ,
        "AIRFLOW_HOME": f"{home}/airflow",
        "AIRFLOW__MLOPS__WORKSPACE": f"{home}/workspace",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.training", side, arguments, home]
    child = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
    found: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return found


def _child(side: str, arguments: str, home: str) -> None:
    """Train, and print what it took once the imports of both sides were done."""
    import mlflow.sklearn

    import airflow_mlops_provider.steps.train  # noqa: F401 - imported by both sides

    given = json.loads(arguments)
    store = Path(home, "workspace", "mlflow")
    store.mkdir(parents=True)
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    mlflow.MlflowClient().search_experiments()  # its tables are made once in the life of a store
    work = _ours(given) if side == "ours" else lambda: _theirs(given)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))


def _ours(given: dict[str, Any]) -> Any:
    from unittest.mock import MagicMock

    from airflow.sdk import DAG

    from airflow_mlops_provider.operators.train import TrainModelOperator

    with DAG("benchmark"):
        operator = TrainModelOperator(
            task_id="train",
            dataset=given["dataset"],
            estimator=ESTIMATOR,
            estimator_params=given["params"],
            features=[f"f{number}" for number in range(COLUMNS)],
            target="late",
            experiment_name="benchmark",
        )
    ti = MagicMock(dag_id="benchmark", run_id="r", task_id="train", map_index=-1, try_number=1)
    return lambda: operator.execute({"ti": ti, "task": operator})


def _theirs(given: dict[str, Any]) -> None:
    import mlflow
    from mlflow.models import infer_signature
    from sklearn.ensemble import HistGradientBoostingClassifier

    from airflow_mlops_provider.steps.model_log import requirements

    frame = pd.read_parquet(DatasetRef.from_xcom(given["dataset"]).uri)
    rows, labels = frame.drop(columns="late"), frame["late"]
    mlflow.set_experiment("benchmark")
    with mlflow.start_run():
        mlflow.log_params(given["params"])
        model = HistGradientBoostingClassifier(**given["params"], random_state=0)
        model.fit(rows, labels)
        sample = rows.head()
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(sample, model.predict_proba(sample)),
            pyfunc_predict_fn="predict_proba",
            pip_requirements=requirements(model, "skops"),
            serialization_format="skops",
            skops_trusted_types=[
                "functools.partial",
                "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
                "sklearn.utils.validation.check_array",
            ],
        )


if __name__ == "__main__":
    _child(*sys.argv[1:])
