"""Drift of 20 mixed columns against Evidently's DataDriftPreset: time and peak memory.

Twelve numbers, two of them with missing values, and eight texts of 5 to 500 levels. Each side is a
process of its own that reads the same two Parquet files; ours writes a profile of one and
compares the other with it. A second measure takes files larger than what we may hold in memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import Measure

MIN_SPEEDUP, MAX_MEMORY, MAX_MIB = 20, 1 / 4, 1024
_LEVELS = (5, 5, 20, 20, 50, 50, 200, 500)
_GROUP = 1_000_000

OURS = """
import sys, tempfile
import pyarrow.parquet as pq
from airflow_mlops_provider.records import DatasetRef
from airflow_mlops_provider.steps.drift.compare import detect_drift
from airflow_mlops_provider.steps.drift.reference import profile_dataset

reference, current = sys.argv[1:]
ref = DatasetRef(
    name="reference", uri=reference, file_hash="", logical_hash="", schema_hash="",
    n_rows=pq.read_metadata(reference).num_rows, columns={}, source="benchmark",
)
with tempfile.TemporaryDirectory() as workspace:
    report = detect_drift(current, profile_dataset(ref, None, workspace))
assert report.verdict == "stable" and report.n_features == 20, report
"""
THEIRS = """
import sys
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

reference, current = (pd.read_parquet(path) for path in sys.argv[1:])
texts = [name for name in reference if name.startswith("text")]
numbers = [name for name in reference if name not in texts]
definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
sides = [Dataset.from_pandas(frame, definition) for frame in (current, reference)]
assert Report([DataDriftPreset()]).run(*sides).dict()["metrics"]
"""
_CLOCK = """
import resource, sys, time
start = time.perf_counter()
exec(compile(sys.argv.pop(1), "benchmark", "exec"))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(time.perf_counter() - start, peak)
"""


def run(quick: bool) -> list[Measure]:
    """Take 100,000 rows a side when quick, else a million; and ten times as many alone."""
    n_rows = 100_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        reference, current = (_written(folder, n_rows, seed) for seed in (0, 1))
        seconds, peak = measured(OURS, reference, current)
        their_seconds, their_peak = measured(THEIRS, reference, current)
        large = _written(folder, 10 * n_rows, 2)
        large_seconds, large_peak = measured(OURS, large, large)
    size, large_size = f"{n_rows:,} x 20", f"{10 * n_rows:,} x 20"
    fast, small = their_seconds / seconds, peak / their_peak
    # interpreter and imports weigh too much in a quick run
    return [
        Measure(
            name=f"drift: {size}",
            ours=seconds,
            theirs=their_seconds,
            unit="s",
            goal=f"at least {MIN_SPEEDUP}x faster" + (" at 1,000,000" if quick else ""),
            holds=quick or fast >= MIN_SPEEDUP,
            n=1,
        ),
        Measure(
            name=f"drift: {size}, peak",
            ours=peak,
            theirs=their_peak,
            unit="MiB",
            goal="at most 1/4" + (" at 1,000,000" if quick else ""),
            holds=quick or small <= MAX_MEMORY,
            n=1,
        ),
        Measure(
            name=f"drift: {large_size}, peak",
            ours=large_peak,
            theirs=MAX_MIB,
            unit="MiB",
            goal=f"at most {MAX_MIB} MiB (took {large_seconds:.0f} s)",
            holds=large_peak <= MAX_MIB,
            n=1,
        ),
    ]


def write(path: str, n_rows: int, seed: int) -> None:
    """Write a Parquet file, a million rows at a time."""
    rng = np.random.default_rng(seed)
    with pq.ParquetWriter(path, _rows(rng, 0).schema, compression="zstd") as writer:
        for start in range(0, n_rows, _GROUP):
            writer.write_batch(_rows(rng, min(_GROUP, n_rows - start)))


def _rows(rng: np.random.Generator, n: int) -> pa.RecordBatch:
    numbers = [
        *(pa.array(rng.normal(size=n), mask=rng.random(n) < missing) for missing in (0.05, 0.2)),
        *(pa.array(rng.normal(size=n)) for _ in range(4)),
        *(pa.array(rng.exponential(size=n)) for _ in range(3)),
        *(pa.array(rng.poisson(mean, n)) for mean in (1, 20, 1000)),
    ]
    texts = [
        pa.array([f"level {level}" for level in range(levels)]).take(
            pa.array(rng.integers(0, levels, n))
        )
        for levels in _LEVELS
    ]
    names = [f"number {n}" for n in range(12)] + [f"text {n}" for n in range(8)]
    return pa.RecordBatch.from_arrays([*numbers, *texts], names)


def _written(folder: str, n_rows: int, seed: int) -> str:
    path = f"{folder}/{n_rows}-{seed}.parquet"
    # a child inherits the peak of the process that starts it, so ours stays small
    code = f"from benchmarks.drift import write; write({path!r}, {n_rows}, {seed})"
    subprocess.run([sys.executable, "-c", code], check=True)
    return path


def measured(code: str, *arguments: str) -> tuple[float, float]:
    """Return seconds, imports included, and the peak of resident memory in MiB."""
    command = [sys.executable, "-W", "ignore", "-c", _CLOCK, code, *arguments]
    environment = os.environ | {"DO_NOT_TRACK": "1"}
    output = subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    seconds, peak = map(float, output.split()[-2:])
    return seconds, peak
