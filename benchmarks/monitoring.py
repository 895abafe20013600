"""A monitoring report on logged predictions with 20 inputs, against Evidently's DataDriftPreset.

The inputs are those of the benchmark `drift`; ours reads them from a compacted prediction log,
with the profile that was kept with the model, and gives all of a report: service, quality, drift
of inputs and scores, AUC from the labels of all predictions, its estimate without them, and two
segment columns. Evidently reads the same inputs from a Parquet file, beside the reference's, and
gives drift alone. Each side is a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from itertools import count
from statistics import median

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops_provider.records import DatasetRef
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.prediction_log import INPUT, SCHEMA
from benchmarks import Measure
from benchmarks.drift import THEIRS, measured
from benchmarks.drift import write as write_inputs

MIN_SPEEDUP, MAX_MIB = 10, 1024
_START = 1_372_636_800_000_000
"""Microseconds since 1970 at the begin of July 2013."""

OURS = """
import sys
import pyarrow.parquet as pq
from airflow_mlops_provider.records import DatasetRef, PredictionBatchRef
from airflow_mlops_provider.steps.monitor.model import monitor_model

log, labelled, profile, evaluated = sys.argv[1:]
n = pq.read_metadata(log).num_rows
batch = PredictionBatchRef(uri=log, n_rows=n, file_hash="", model_versions=["models:/m/1"])
labels = DatasetRef(
    name="labelled", uri=labelled, file_hash="", logical_hash="", schema_hash="",
    n_rows=n, columns={}, source="benchmark",
)
report = monitor_model(
    batch, labels, endpoint="e", profile_uri=profile, model_uri="models:/m/1", baseline=0.6,
    reference_predictions=evaluated, segments=["text 0", "text 2"],
)
assert report.signals == [] and report.n_labelled == report.drift.n_current, report.reasons
assert {each.status for each in report.findings} == {"ok"}, report.findings
"""


def run(quick: bool) -> list[Measure]:
    """Take 100,000 predictions when quick, else a million, three times in turns."""
    n_rows, times = (100_000, 1) if quick else (1_000_000, 3)
    with tempfile.TemporaryDirectory() as folder:
        code = f"from benchmarks.monitoring import prepare; prepare({folder!r}, {n_rows})"
        subprocess.run([sys.executable, "-c", code], check=True)  # its memory is not inherited
        with open(f"{folder}/profile") as file:
            profile = file.read()
        ours = (f"{folder}/log.parquet", f"{folder}/labelled.parquet", profile)
        theirs = (f"{folder}/reference.parquet", f"{folder}/current.parquet")
        pairs = [
            (measured(OURS, *ours, f"{folder}/evaluated.parquet"), measured(THEIRS, *theirs))
            for _ in range(times)
        ]
    (seconds, peak), (their_seconds, their_peak) = (
        (median(pair[side][0] for pair in pairs), max(pair[side][1] for pair in pairs))
        for side in (0, 1)
    )
    size = f"{n_rows:,} x 20"
    return [
        Measure(
            name=f"monitoring: {size}",
            ours=seconds,
            theirs=their_seconds,
            unit="s",
            goal=f"at least {MIN_SPEEDUP}x faster" + (" at 1,000,000" if quick else ""),
            holds=quick or their_seconds / seconds >= MIN_SPEEDUP,
            n=times,
        ),
        Measure(
            name=f"monitoring: {size}, peak",
            ours=peak,
            theirs=their_peak,
            unit="MiB",
            goal=f"at most {MAX_MIB} MiB",
            holds=peak <= MAX_MIB,
            n=times,
        ),
    ]


def prepare(folder: str, n_rows: int) -> None:
    """Write reference and current inputs, the log, labelled predictions and the profile."""
    for seed, name in enumerate(("reference", "current")):
        write_inputs(f"{folder}/{name}.parquet", n_rows, seed)
    rng = np.random.default_rng(2)
    _write_log(folder, n_rows, rng)
    scores = rng.beta(2, 5, min(n_rows, 100_000))
    late = rng.uniform(size=len(scores)) < scores
    pd.DataFrame({"score": scores, "target": late.astype(float)}).to_parquet(
        f"{folder}/evaluated.parquet"
    )
    reference = DatasetRef(
        name="reference",
        uri=f"{folder}/reference.parquet",
        file_hash="",
        logical_hash="",
        schema_hash="",
        n_rows=n_rows,
        columns={},
        source="benchmark",
    )
    with open(f"{folder}/profile", "w") as file:
        file.write(profile_dataset(reference, None, folder))


def _write_log(folder: str, n_rows: int, rng: np.random.Generator) -> None:
    inputs = pq.ParquetFile(f"{folder}/current.parquet")
    schema = [pa.field(INPUT + each.name, each.type) for each in inputs.schema_arrow]
    truth = [pa.field("label", pa.int64()), pa.field("label_ts", SCHEMA.field("ts").type)]
    log, labelled = pa.schema([*SCHEMA, *schema]), pa.schema([*SCHEMA, *schema, *truth])
    first = count(step=50_000)
    with (
        pq.ParquetWriter(f"{folder}/log.parquet", log, compression="zstd") as log_file,
        pq.ParquetWriter(f"{folder}/labelled.parquet", labelled, compression="zstd") as truth_file,
    ):
        for batch in inputs.iter_batches(50_000):
            rows = _records(next(first), batch.num_rows, rng)
            columns = [*rows.values(), *batch.columns]
            log_file.write_table(pa.table(columns, schema=log))
            late = pa.array((rng.uniform(size=batch.num_rows) < rows["score"]).astype(int))
            known = pa.array(rows["ts"].cast(pa.int64()).to_numpy() + 3_600_000_000)
            columns += [late, known.cast(SCHEMA.field("ts").type)]
            truth_file.write_table(pa.table(columns, schema=labelled))


def _records(first: int, n: int, rng: np.random.Generator) -> dict[str, pa.Array]:
    places = np.arange(first, first + n)
    values = {
        "request_id": [f"{place:032x}" for place in places],
        "row": np.zeros(n, int),
        "ts": _START + places * 1_000_000,
        "endpoint": ["e"] * n,
        "deployment": ["v1"] * n,
        "model_uri": ["models:/m/1"] * n,
        "entity_id": [str(place) for place in places],
        "score": rng.beta(2, 5, n),
        "status": np.full(n, 200),
        "latency_ms": rng.exponential(5, n),
        "attempt": np.ones(n, int),
        "shadow": np.zeros(n, bool),
    }
    return {
        each.name: pa.array(values[each.name], each.type)
        if each.name in values
        else pa.nulls(n, each.type)
        for each in SCHEMA
    }
