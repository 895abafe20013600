"""What memory a partitioned batch prediction takes, beside reading and predicting it whole."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from airflow_mlops_provider.records import DatasetRef
from airflow_mlops_provider.steps.predict_parts import predict_parts
from benchmarks import Measure

FEATURES = list("abcdefghij")
YEAR = (1_356_998_400, 1_388_534_400)
"""Seconds since the epoch at the begin and end of 2013."""
SHARE, GROWTH = 0.5, 1.25


def run(quick: bool) -> list[Measure]:
    """Compare memory in new processes: its growth with that of predicting whole, and its peak.

    The peak is that of the process with all it imports, held against a tenth of the rows.
    """
    rows = 1_000_000 if quick else 5_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _log_model(folder)
        for n in (rows, rows // 10):
            _write(folder / f"{n}.parquet", n)
        grown, ours = _memory_of("parts", folder, rows)
        _, tenth = _memory_of("parts", folder, rows // 10)
        whole, _ = _memory_of("whole", folder, rows)
    size = f"{rows // 1_000_000}M x {len(FEATURES)}"
    goals = f"ours <= {SHARE} x pandas, whole", f"ours <= {GROWTH} x ours on a tenth of the rows"
    return [
        Measure(
            f"batch_predict: growth of memory, {size}",
            grown,
            whole,
            "MiB",
            goals[0],
            grown <= SHARE * whole,
            1,
        ),
        Measure(
            f"batch_predict: peak memory, {size}",
            ours,
            tenth,
            "MiB",
            goals[1],
            ours <= GROWTH * tenth,
            1,
        ),
    ]


def predict(what: str, folder: str, rows: str) -> tuple[float, float]:
    """Predict all rows; return how this process grew once the model was loaded, and its peak."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    uri, path = Path(folder, "model").read_text(), f"{folder}/{rows}.parquet"
    model = mlflow.pyfunc.load_model(uri)
    before = _peak()
    if what == "whole":
        frame = pd.read_parquet(path)
        scores = model.predict(frame[FEATURES])[:, -1]
        frame[["id"]].assign(score=scores).to_parquet(f"{folder}/scores.parquet")
        return _peak() - before, _peak()
    schema = pq.read_schema(path)
    ref = DatasetRef(
        name="rows",
        uri=path,
        file_hash=rows,
        logical_hash=rows,
        schema_hash="",
        n_rows=int(rows),
        columns={field.name: str(field.type) for field in schema},
        source="benchmark",
    )
    by = {"time_column": "time", "period": "month"}
    predict_parts(uri, ref, workspace=folder, partitioning=by, keep_columns=["id"])
    return _peak() - before, _peak()


def _log_model(folder: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    experiment = mlflow.create_experiment("batch", artifact_location=str(folder / "artifacts"))
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(2_000, len(FEATURES))), columns=FEATURES)
    model = LogisticRegression().fit(frame, frame.a > 0)
    with mlflow.start_run(experiment_id=experiment) as started:
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(frame, model.predict_proba(frame)),
            pyfunc_predict_fn="predict_proba",
            pip_requirements=[],
        )
    (folder / "model").write_text(f"runs:/{started.info.run_id}/model")


def _write(path: Path, rows: int) -> None:
    rng, piece = np.random.default_rng(1), min(250_000, rows)
    kinds = {"id": pa.int64(), "time": pa.timestamp("us", "UTC")}
    schema = pa.schema({**dict.fromkeys(FEATURES, pa.float64()), **kinds})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for begin in range(0, rows, piece):
            columns = [pa.array(rng.normal(size=piece)) for _ in FEATURES]
            times = rng.integers(*YEAR, piece) * 1_000_000
            columns += [pa.array(np.arange(begin, begin + piece)), pa.array(times, kinds["time"])]
            writer.write_table(pa.table(columns, schema=schema))


def _memory_of(what: str, folder: Path, rows: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.batch_predict", what, str(folder), str(rows)]
    output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    grown, peak = output.splitlines()[-1].split()
    return float(grown), float(peak)


def _peak() -> float:
    # getrusage would tell of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    print(*predict(*sys.argv[1:]))
