"""Compacted prediction logs by columns, and what a report says of them."""

import hashlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops_provider.records import DatasetRef, PredictionBatchRef
from airflow_mlops_provider.steps.prediction_log import INPUT, SCHEMA

START = datetime(2013, 7, 1, tzinfo=UTC)
MODEL = "models:/flights/1"


def log_table(n, inputs=None, **columns):
    """Return ``n`` live, answered predictions, one a second, but for the columns given."""
    defaults = {
        "request_id": [f"r{i}" for i in range(n)],
        "row": [0] * n,
        "ts": [START + timedelta(seconds=i) for i in range(n)],
        "endpoint": ["flights"] * n,
        "deployment": ["v1"] * n,
        "model_uri": [MODEL] * n,
        "entity_id": [f"e{i}" for i in range(n)],
        "score": [0.5] * n,
        "status": [200] * n,
        "latency_ms": [2.0] * n,
        "attempt": [1] * n,
        "shadow": [False] * n,
    } | columns
    known = {
        each.name: pa.array(defaults[each.name], each.type)
        if each.name in defaults
        else pa.nulls(n, each.type)
        for each in SCHEMA
    }
    more = {name: pa.array(columns[name]) for name in columns if name not in known}
    given = {f"{INPUT}{name}": pa.array(values) for name, values in (inputs or {}).items()}
    return pa.table({**known, **more, **given})


def stored(folder, table, **options):
    """Write a table as a compacted log; return the batch."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "log.parquet"
    pq.write_table(table, path, **options)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path = path.rename(folder / f"{digest}.parquet")
    times = table["ts"].to_pylist()
    return PredictionBatchRef(
        uri=str(path),
        n_rows=table.num_rows,
        file_hash=digest,
        model_versions=sorted(set(table["model_uri"].to_pylist())),
        window_start=min(times).isoformat() if times else None,
        window_end=max(times).isoformat() if times else None,
    )


def labelled(folder, table, labels, **columns):
    """Write predictions with their labels; return the dataset."""
    table = table.append_column("label", pa.array(labels))
    for name, values in columns.items():
        table = table.append_column(name, values)
    batch = stored(folder, table)
    return DatasetRef(
        name="labelled",
        uri=batch.uri,
        file_hash=batch.file_hash,
        logical_hash="",
        schema_hash="",
        n_rows=batch.n_rows,
        columns={each.name: str(each.type) for each in table.schema},
        source="test",
    )


def finding_of(report, signal):
    """Return the finding of a signal; there is exactly one."""
    (finding,) = [each for each in report.findings if each.signal == signal]
    return finding


def judged_scores(n, seed=0, strength=4.0):
    """Return calibrated scores and labels drawn from them."""
    rng = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-rng.normal(0, strength / 2, n)))
    return scores, (rng.uniform(size=n) < scores).astype(int)
