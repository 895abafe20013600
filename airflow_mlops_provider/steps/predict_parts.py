"""Predict a whole dataset partition by partition, so that a killed attempt is gone on with."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import fsspec
import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from airflow_mlops_provider.exceptions import (
    DataError,
    ModelError,
    ParameterError,
    StepFailedError,
)
from airflow_mlops_provider.records import DatasetRef, PredictionPartsRef
from airflow_mlops_provider.steps.evaluate import load_model, signature_names
from airflow_mlops_provider.steps.evaluate.answers import predict_answers
from airflow_mlops_provider.steps.partitions import (
    Partitioning,
    counted,
    dealt,
    sized,
    sort_rows,
    spool,
)
from airflow_mlops_provider.steps.predict import SCORE, require_columns, require_sizes
from airflow_mlops_provider.workspace import (
    checked_name,
    exists,
    join,
    read_json,
    store_by_content,
    write_json,
)

PROBABILITY = "probability_"


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One partition to predict; goes to a worker process."""

    label: str
    rows: str
    """Arrow stream of its rows, on this machine."""
    n_rows: int
    model: str
    """Folder of the model's files, on this machine."""
    folder: str
    keep_columns: tuple[str, ...]
    batch_rows: int


def predict_parts(
    model_uri: str,
    dataset: DatasetRef,
    *,
    workspace: str,
    partitioning: Mapping[str, Any],
    batch_rows: int = 100_000,
    keep_columns: Sequence[str] = (),
    workers: int = 1,
    part: int = 0,
    of: int = 1,
    feature_service: str | None = None,
) -> PredictionPartsRef:
    """Write the model's answers to each partition of ``dataset`` as one Parquet file.

    The rows are sorted into partitions on the local disk first, so that only ``batch_rows`` rows
    (for each worker) are in memory. A part is kept under its content and then noted, and a part
    that is noted is not predicted again: the same inputs give the same folder and files.

    Each file holds ``keep_columns``, then ``score`` as ``batch_predict`` writes it, and for a model
    that gives the probabilities of k > 2 classes ``probability_0`` to ``probability_{k-1}``, in the
    order of its classes; all float64.

    Args:
        model_uri: Any MLflow model with a pyfunc flavour and a signature.
        dataset: Rows to predict.
        workspace: Where the parts are kept, under ``predictions/{dataset.name}/{inputs}/``.
        partitioning: The fields of a ``Partitioning`` (``steps/partitions.py``).
        batch_rows: Rows that are predicted at once, at least 1.
        keep_columns: Columns of the dataset to keep beside the answers.
        workers: Processes that predict partitions side by side.
        part: Which share of the partitions to predict, from 0.
        of: Into how many shares they are dealt, for mapped tasks.
        feature_service: For the record: what the model learned from.

    Raises:
        DataError: the file is gone or broken, lacks a column, or has other rows than it says.
        ModelError: the model cannot be loaded, has no signature, or fails on the rows.
        ParameterError: an argument is out of its range, or there are too many partitions.
        StepFailedError: a worker died; another attempt goes on.
    """
    by = Partitioning(**partitioning)
    by.check()
    require_sizes(batch_rows, keep_columns, "predict_parts")
    if workers < 1 or of < 1 or not 0 <= part < of:
        got = {"workers": workers, "part": part, "of": of}
        raise _wrong("workers", "1 or more, of too, and part from 0 to of - 1", got)
    model = load_model(model_uri)
    features = signature_names(model, model_uri)
    require_columns(dataset, features, "the model")
    require_columns(dataset, [*keep_columns, *by.names], "keep_columns and partitions")
    folder = _folder(workspace, dataset, model, by, keep_columns, batch_rows)
    counts = dealt(counted(dataset, by, batch_rows), part, of)
    waiting = {label for label in counts if _noted(folder, label) is None}
    if waiting:
        columns = list(dict.fromkeys([*features, *keep_columns, *by.names]))
        with tempfile.TemporaryDirectory(prefix="mlops-predict-") as scratch:
            sort_rows(scratch, dataset, columns, by, batch_rows, waiting)
            local = _local_model(model_uri, scratch)
            jobs = [
                _Job(
                    label=label,
                    rows=spool(scratch, label),
                    n_rows=counts[label],
                    model=local,
                    folder=folder,
                    keep_columns=tuple(keep_columns),
                    batch_rows=batch_rows,
                )
                for label in sorted(waiting)
            ]
            _run(jobs, workers)
    notes = [_require_note(folder, label) for label in counts]
    digest = hashlib.sha256("".join(note["file_hash"] for note in notes).encode()).hexdigest()
    manifest = join(folder, "_manifests", f"{part}-of-{of}.json")
    write_json(manifest, {"dataset": dataset.to_xcom(), "model": model_uri, "parts": notes})
    return PredictionPartsRef(
        uri=folder,
        manifest_uri=manifest,
        n_rows=sum(note["n_rows"] for note in notes),
        n_parts=len(notes),
        n_reused=len(notes) - len(waiting),
        file_hash=digest,
        columns=notes[0]["columns"] if notes else [],
        dataset_hash=dataset.file_hash,
        model_versions=[model_uri],
        feature_service=feature_service,
        part=part,
        of=of,
        window_start=dataset.window_start,
        window_end=dataset.window_end,
    )


def _folder(
    workspace: str,
    dataset: DatasetRef,
    model: Any,
    by: Partitioning,
    keep_columns: Sequence[str],
    batch_rows: int,
) -> str:
    """Return the folder of these inputs: all that decides what the files hold."""
    inputs = [model.metadata.model_uuid, dataset.file_hash, by.names, by.period]
    text = json.dumps([*inputs, list(keep_columns), batch_rows])
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    return join(workspace, "predictions", checked_name(dataset.name, "name", "a dataset"), key)


def _run(jobs: list[_Job], workers: int) -> None:
    if workers == 1 or len(jobs) == 1:
        for job in jobs:
            _predict_part(job)
        return
    try:
        Parallel(n_jobs=min(workers, len(jobs)), backend="loky", batch_size=1)(
            delayed(_predict_part)(job) for job in jobs
        )
    except TerminatedWorkerError as error:
        raise StepFailedError(
            f"A process that predicts died, perhaps for want of memory: {error}. Another attempt "
            "goes on where this one stopped; give fewer workers or a smaller batch_rows."
        ) from error


def _predict_part(job: _Job) -> None:
    """Predict one partition, keep its file and note it."""
    written: dict[str, Any] = {}

    def write(uri: str) -> None:
        with (
            pa.memory_map(job.rows) as source,
            pa.ipc.open_stream(source) as rows,
            fsspec.open(uri, "wb") as target,
        ):
            written["columns"] = _write(target, job, rows)

    uri, digest = store_by_content(join(job.folder, job.label), ".parquet", write)
    with fsspec.open(uri, "rb") as file:
        n_rows = pq.ParquetFile(file).metadata.num_rows
    if n_rows != job.n_rows:
        raise DataError(
            f"Expected {job.n_rows} predictions of the partition {job.label}, got {n_rows}."
        )
    note = {"partition": job.label, "uri": uri, "n_rows": n_rows, "file_hash": digest, **written}
    write_json(_note(job.folder, job.label), note)


def _write(target: Any, job: _Job, rows: Any) -> list[str]:
    """Write the answers to a stream of rows, and return the names of the columns."""
    model, writer, done = _model(job.model), None, 0
    kept = rows.schema.empty_table().select(list(job.keep_columns)).schema
    with ExitStack() as stack:
        for batch in sized(rows, job.batch_rows):
            answers = _answers(model, batch, job.label, done)
            if writer is None:
                fields = [*kept, *(pa.field(name, pa.float64()) for name in answers)]
                schema = pa.schema(fields)
                writer = stack.enter_context(pq.ParquetWriter(target, schema, compression="zstd"))
            values = [batch[name] for name in job.keep_columns] + list(answers.values())
            writer.write_table(pa.table(values, schema=schema))
            done += batch.num_rows
    return list(schema.names)


def _answers(model: Any, batch: pa.Table, label: str, done: int) -> dict[str, pa.Array]:
    try:
        answers = predict_answers(model, batch.to_pandas())
    except (ModelError, KeyError) as error:
        raise ModelError(
            f"The model failed on rows {done} to {done + batch.num_rows - 1} of the partition "
            f"{label}: {error}. Check the types of these rows against the model's signature."
        ) from error
    if answers.ndim == 1:
        return {SCORE: pa.array(answers, pa.float64())}
    each = np.ascontiguousarray(answers.T)
    columns = {f"{PROBABILITY}{index}": pa.array(row) for index, row in enumerate(each)}
    return {SCORE: pa.array(each[-1]), **columns}


def _local_model(model_uri: str, scratch: str) -> str:
    """Bring the model's files here: worker processes then need no registry and no credentials."""
    return str(mlflow.artifacts.download_artifacts(model_uri, dst_path=join(scratch, "model")))


@lru_cache(maxsize=1)
def _model(folder: str) -> Any:
    import airflow_mlops_provider.steps.skops_io  # noqa: F401 - first, so that it is quiet

    return mlflow.pyfunc.load_model(folder)


def _note(folder: str, label: str) -> str:
    return join(folder, "_parts", f"{hashlib.sha256(label.encode()).hexdigest()[:32]}.json")


def _noted(folder: str, label: str) -> dict[str, Any] | None:
    """Return what is known of a part that is there."""
    if not exists(_note(folder, label)):
        return None
    note: dict[str, Any] = read_json(_note(folder, label))
    return note if exists(note["uri"]) else None


def _require_note(folder: str, label: str) -> dict[str, Any]:
    note = _noted(folder, label)
    if note is None:
        raise DataError(f"The part {label} in {folder} went away while others were written.")
    return note


def _wrong(name: str, constraint: str, value: object) -> ParameterError:
    return ParameterError.of(name, "predict_parts", constraint, value)
