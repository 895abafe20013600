"""What a snapshot with its fingerprint costs over a bare Parquet write of the same table."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops_provider.steps.card import DataCard
from airflow_mlops_provider.steps.snapshot import snapshot_dataset, write_table
from benchmarks import Measure, in_turns

RATIO = 1.5
SHARE = 0.5


def run(quick: bool) -> list[Measure]:
    """Compare wall seconds on 1M x 20, and the memory of reading a file in batches and whole."""
    with tempfile.TemporaryDirectory() as folder:
        return [_seconds(Path(folder), 3 if quick else 9), _memory(Path(folder), quick)]


def table_of(rows: int, seed: int = 0) -> pa.Table:
    """Return 20 columns: 8 floats, 5 integers, 5 texts, a time and a flag; 2 % are null."""
    rng = np.random.default_rng(seed)
    words = np.array([f"level {n}" for n in range(20)])
    values = {f"float_{n}": rng.normal(size=rows) for n in range(8)}
    values |= {f"int_{n}": rng.integers(0, 10 ** (n + 2), rows) for n in range(5)}
    values |= {f"low_{n}": words[rng.integers(0, 20, rows)] for n in range(4)}
    values["high"] = np.char.add("N", rng.permutation(rows).astype(str))
    columns = {name: pa.array(each, mask=rng.random(rows) < 0.02) for name, each in values.items()}
    columns["time"] = pa.array(rng.integers(0, 10**15, rows), pa.timestamp("us", tz="UTC"))
    columns["flag"] = pa.array(rng.random(rows) < 0.5)
    return pa.table(columns)


def _seconds(folder: Path, n: int) -> Measure:
    table = table_of(1_000_000)

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as workspace:
            write_table(table, "d", workspace, "benchmark", card=DataCard())

    def theirs() -> None:
        pq.write_table(table, folder / "bare.parquet", compression="zstd")

    ours(), theirs()
    first, second = in_turns(n, lambda: _timed(ours), lambda: _timed(theirs))
    name, goal = "snapshot: 1M x 20", f"ours <= {RATIO} x pyarrow.parquet.write_table"
    return Measure(name, first, second, "s", goal, first <= RATIO * second, n)


def _memory(folder: Path, quick: bool) -> Measure:
    """Compare the growth of peak memory in new processes, for a file of many row groups."""
    path, n = folder / "large.parquet", 1 if quick else 3
    table = table_of(500_000)
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(10 if quick else 20):
            writer.write_table(table, row_group_size=100_000)
    ours, theirs = in_turns(n, lambda: _growth("ours", path), lambda: _growth("whole", path))
    name, goal = "snapshot: peak memory", f"ours <= {SHARE} x pyarrow.parquet.read_table"
    return Measure(name, ours, theirs, "MiB", goal, ours <= SHARE * theirs, n)


def _growth(what: str, path: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.snapshot", what, str(path)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


def grow(what: str, path: str) -> float:
    """Return the MiB by which this process grew while it took a snapshot or read a file."""
    before = _peak()
    if what == "ours":
        with tempfile.TemporaryDirectory() as workspace:
            snapshot_dataset(path, name="d", workspace=workspace)
    else:
        pq.read_table(path)
    return _peak() - before


def _peak() -> float:
    # getrusage would tell of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    print(grow(*sys.argv[1:]))
