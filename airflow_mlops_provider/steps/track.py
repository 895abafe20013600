"""One MLflow run per pipeline run, with one nested run per task attempt inside it.

Runs are found again by tags, so a retry, a clear or a second worker never makes a duplicate,
and a task needs to be told nothing but who it is.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from airflow_mlops_provider.exceptions import ParameterError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from airflow_mlops_provider.records import DatasetRef, Record

KIND = "mlops.kind"
PIPELINE, TASK = "pipeline", "task"
_DIGEST_LENGTH, _TAG_LENGTH = 36, 500  # what MLflow accepts
_TYPES = {
    "bool": "boolean",
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "integer"),
    **dict.fromkeys(("int64", "uint32", "uint64"), "long"),
    **dict.fromkeys(("halffloat", "float"), "float"),
    "double": "double",
    "binary": "binary",
    "timestamp[us, tz=UTC]": "datetime",
    "date32[day]": "datetime",
}
"""MLflow's names for Arrow's types; it shows all others as text."""


@dataclass(frozen=True)
class TaskRun:
    """An open MLflow run and the client to write to it."""

    client: MlflowClient
    run_id: str
    experiment_id: str

    def log_record(self, record: Record) -> None:
        """Keep a record as ``records/<ClassName>.json``."""
        name = f"records/{type(record).__name__}.json"
        self.client.log_dict(self.run_id, record.to_xcom(), name)

    def log_page(self, html: str, name: str) -> None:
        """Keep a page that MLflow shows as it is; ``name`` ends in ``.html``."""
        self.client.log_text(self.run_id, html, name)

    def log_picture(self, png: bytes, name: str) -> None:
        """Keep a picture; ``name`` ends in ``.png``."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, Path(name).name)
            file.write_bytes(png)
            self.client.log_artifact(self.run_id, str(file), str(Path(name).parent))

    def log_dataset(self, dataset: DatasetRef, context: str) -> None:
        """Tie the run to a dataset; ``context`` says what for (``snapshot``, ``training``...).

        Runs that touch the same rows share the digest, which is our logical hash cut to the
        length MLflow accepts; MLflow's own reads only the first rows.
        """
        described = {
            "sha256": dataset.file_hash,
            "n_rows": str(dataset.n_rows),
            "schema_hash": dataset.schema_hash,
            "source": dataset.source[:_TAG_LENGTH],
            MLFLOW_DATASET_CONTEXT: context,
        }
        entity = Dataset(
            name=dataset.name,
            digest=dataset.logical_hash[:_DIGEST_LENGTH],
            source_type=_source_type(dataset.uri),
            source=json.dumps({"uri": dataset.uri}),
            schema=_mlflow_schema(dataset.columns),
            profile=json.dumps({"num_rows": dataset.n_rows}),
        )
        tags = [InputTag(key, value) for key, value in described.items()]
        self.client.log_inputs(self.run_id, [DatasetInput(entity, tags)])

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log several metrics in one request."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [Metric(name, value, now, 0) for name, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=rows)


def _source_type(uri: str) -> str:
    """Return MLflow's name for where a file lies."""
    protocol, separator, _ = uri.partition("://")
    return protocol if separator and protocol != "file" else "local"


def _mlflow_schema(columns: Mapping[str, str]) -> str:
    specs = [
        {"name": name, "type": _TYPES.get(kind, "string"), "required": False}
        for name, kind in columns.items()
    ]
    return json.dumps({"mlflow_colspec": specs})


def experiment_id(client: MlflowClient, name: str, artifact_root: str | None) -> str:
    """Return the id of the experiment ``name``, created if need be (also by a rival)."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifact_root))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def find_run(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> Run | None:
    """Return the newest run of ``experiment`` that carries all ``tags``."""
    query = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in tags.items())
    runs = client.search_runs([experiment], query, max_results=1)
    return runs[0] if runs else None


def start_pipeline_run(
    client: MlflowClient,
    experiment: str,
    tags: Mapping[str, str],
    *,
    name: str,
    extra_tags: Mapping[str, str],
) -> str:
    """Open the run of a whole pipeline run, or reopen the one it has; return its id."""
    identity = {**tags, KIND: PIPELINE}
    found = find_run(client, experiment, identity)
    if found is None:
        created = client.create_run(experiment, tags={**extra_tags, **identity}, run_name=name)
        return str(created.info.run_id)
    client.update_run(found.info.run_id, status="RUNNING")
    return str(found.info.run_id)


def finish_pipeline_run(
    client: MlflowClient, experiment: str, tags: Mapping[str, str], status: str
) -> int:
    """Close a pipeline run with ``status``, and as KILLED what its tasks left open.

    Returns:
        How many nested runs had been left open.
    """
    pipeline = find_run(client, experiment, {**tags, KIND: PIPELINE})
    if pipeline is None:
        return 0
    children = client.search_runs(
        [experiment], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{pipeline.info.run_id}'"
    )
    abandoned = [run for run in children if run.info.status == "RUNNING"]
    for run in abandoned:
        client.set_terminated(run.info.run_id, "KILLED")
    client.set_terminated(pipeline.info.run_id, status)
    return len(abandoned)


@contextmanager
def task_run(
    client: MlflowClient,
    experiment: str,
    pipeline_tags: Mapping[str, str],
    task_tags: Mapping[str, str],
    name: str,
) -> Iterator[TaskRun]:
    """Open a run for one task attempt, nested in its pipeline's run if there is one.

    The run ends FINISHED, FAILED after an exception, or KILLED when the process is told to
    stop; a process that cannot even do that leaves it to :func:`finish_pipeline_run`.
    """
    identity = {**pipeline_tags, **task_tags, KIND: TASK}
    pipeline = find_run(client, experiment, {**pipeline_tags, KIND: PIPELINE})
    parent = {MLFLOW_PARENT_RUN_ID: pipeline.info.run_id} if pipeline else {}
    found = find_run(client, experiment, identity)
    if found is None:
        found = client.create_run(experiment, tags={**identity, **parent}, run_name=name)
    else:
        client.update_run(found.info.run_id, status="RUNNING")
    run_id = found.info.run_id
    try:
        yield TaskRun(client, run_id, experiment)
    except Exception:
        client.set_terminated(run_id, "FAILED")
        raise
    except BaseException:
        client.set_terminated(run_id, "KILLED")
        raise
    client.set_terminated(run_id, "FINISHED")


def quoted(value: str) -> str:
    """Return ``value`` as a string of MLflow's search language, which knows no escapes."""
    for quote in ("'", '"'):
        if quote not in value:
            return f"{quote}{value}{quote}"
    raise ParameterError.of("value", "an MLflow search", "without one kind of quotes", value)
