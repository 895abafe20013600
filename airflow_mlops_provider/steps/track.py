"""One MLflow run per pipeline run, with one nested run per task attempt inside it.

Runs are found again by tags, so a retry, a clear or a second worker never makes a duplicate,
and a task needs to be told nothing but who it is.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from airflow_mlops_provider.steps.find_runs import (
    ELECTED,
    find_runs,
    open_runs_below,
    pipeline_runs,
)
from airflow_mlops_provider.steps.metadata import (
    CHAMPION,
    KIND,
    PIPELINE,
    TASK,
    TRY_NUMBER,
    as_json,
    record_tag,
)
from airflow_mlops_provider.steps.mlflow_dataset import dataset_input

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from airflow_mlops_provider.records import DatasetRef, Record

_log = logging.getLogger(__name__)

_CLOSE_SECONDS = 5.0
_KILL_SECONDS = 2.0  # Airflow sends SIGKILL five seconds after SIGTERM
_POLLS, _POLL_SECONDS = 20, 0.1


@dataclass
class TaskRun:
    """An open MLflow run and the client to write to it."""

    client: MlflowClient
    run_id: str
    experiment_id: str
    pipeline_id: str | None = None
    """The run it is nested in, if there is one."""
    killed: bool = False
    records: list[Record] = field(default_factory=list)
    """What was logged so far, and below with what for."""
    datasets: list[tuple[DatasetRef, str]] = field(default_factory=list)

    def log_record(self, record: Record) -> None:
        """Keep a record as ``records/<ClassName>.json``, and as a tag by which it is found."""
        name = f"records/{type(record).__name__}.json"
        self.client.log_dict(self.run_id, record.to_xcom(), name)
        self.client.set_tag(self.run_id, *record_tag(record))
        self.records.append(record)

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
        """Tie the run to a dataset; ``context`` says what for (``snapshot``, ``training``...)."""
        self.client.log_inputs(self.run_id, [dataset_input(dataset, context)])
        self.datasets.append((dataset, context))

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log several metrics in one request."""
        self.client.log_batch(self.run_id, metrics=_metrics(metrics))

    def log_champion(self, model_uri: str, metrics: Mapping[str, float]) -> None:
        """Keep the model that a challenger was held against, in the pipeline's run if it can."""
        told = as_json({"model_uri": model_uri, "metrics": dict(metrics)})
        self.client.log_batch(
            self.pipeline_id or self.run_id,
            metrics=_metrics({f"champion_{name}": value for name, value in metrics.items()}),
            tags=[RunTag(CHAMPION, told)],
        )

    def kill(self) -> None:
        """End the run as KILLED at once, because the process is about to end."""
        self.killed = True
        _close_anyhow(self.client, self.run_id, "KILLED", _KILL_SECONDS)


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


def start_pipeline_run(
    client: MlflowClient,
    experiment: str,
    tags: Mapping[str, str],
    *,
    name: str,
    extra_tags: Mapping[str, str],
) -> str:
    """Open the run of a whole pipeline run, or reopen the one it has; return its id."""
    found = pipeline_runs(client, experiment, tags)
    if not found:
        identity = {**tags, KIND: PIPELINE}
        created = client.create_run(experiment, tags={**extra_tags, **identity}, run_name=name)
        return _elected(client, experiment, tags, str(created.info.run_id))
    run_id = str(found[0].info.run_id)
    client.update_run(run_id, status="RUNNING")
    told = {**extra_tags, ELECTED: "true"}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in told.items()])
    return run_id


def _elected(client: MlflowClient, experiment: str, tags: Mapping[str, str], mine: str) -> str:
    """Agree with rivals on one run, and delete ours if it is another.

    MLflow cannot create a run on condition that there is none. So whoever created one looks
    again: who sees a smaller id gives way; who sees only larger ids waits until they have given
    way, or turn out to have been elected before ours was there.
    """
    for _ in range(_POLLS):
        runs = pipeline_runs(client, experiment, tags)
        ids = [str(run.info.run_id) for run in runs]
        elected = ELECTED in runs[0].data.tags
        if mine in ids[1:]:
            client.delete_run(mine)
        if elected or ids == [mine]:
            break
        time.sleep(_POLL_SECONDS)
    if not elected:  # nobody else is there, or who is there died before it could decide
        client.set_tag(ids[0], ELECTED, "true")
    return ids[0]


def finish_pipeline_run(
    client: MlflowClient, experiment: str, tags: Mapping[str, str], status: str
) -> tuple[str | None, int]:
    """Close a pipeline run with ``status``, and as KILLED what is still open below it.

    Returns:
        The id of the run, None if there is none, and how many runs had been left open.
    """
    found = pipeline_runs(client, experiment, tags)
    if not found:
        return None, 0
    pipeline, *doubles = (str(run.info.run_id) for run in found)
    for double in doubles:
        _merge(client, experiment, double, pipeline)
    abandoned = open_runs_below(client, experiment, {pipeline})
    for run_id in abandoned:
        client.set_terminated(run_id, "KILLED")
    client.set_terminated(pipeline, status)
    return pipeline, len(abandoned)


def _merge(client: MlflowClient, experiment: str, double: str, pipeline: str) -> None:
    """Nest in ``pipeline`` what lies in a second run of it, and delete that."""
    for run in find_runs(client, experiment, {MLFLOW_PARENT_RUN_ID: double}):
        client.set_tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, pipeline)
    client.delete_run(double)


def status_after(error: BaseException) -> str | None:
    """Return what a run ends as after an error; None leaves it open."""
    return "FAILED" if isinstance(error, Exception) else "KILLED"


@contextmanager
def task_run(
    client: MlflowClient,
    experiment: str,
    pipeline_tags: Mapping[str, str],
    task_tags: Mapping[str, str],
    name: str,
    *,
    extra_tags: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    status_after: Callable[[BaseException], str | None] = status_after,
) -> Iterator[TaskRun]:
    """Open a run for one task attempt, nested in its pipeline's run if there is one.

    What an earlier attempt left open ends as KILLED now. The run itself ends FINISHED, or as
    ``status_after`` an exception says, which is raised whatever MLflow does. A process that
    cannot even close its run leaves it to the next attempt or to :func:`finish_pipeline_run`.
    """
    pipeline = next(iter(pipeline_runs(client, experiment, pipeline_tags)), None)
    pipeline_id = str(pipeline.info.run_id) if pipeline else None
    identity = {**pipeline_tags, **task_tags, KIND: TASK}
    run_id = _reopened(client, experiment, identity)
    if run_id is None:
        nested = {MLFLOW_PARENT_RUN_ID: pipeline_id} if pipeline_id else {}
        tags = {**(extra_tags or {}), **identity, **nested}
        run_id = str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)
        client.log_batch(run_id, params=[Param(*each) for each in (params or {}).items()])
    run = TaskRun(client, run_id, experiment, pipeline_id)
    try:
        yield run
    except BaseException as error:
        status = status_after(error)
        if status and not run.killed:
            _close_anyhow(client, run_id, status, _CLOSE_SECONDS)
        raise
    if not run.killed:
        client.set_terminated(run_id, "FINISHED")


def _reopened(client: MlflowClient, experiment: str, identity: Mapping[str, str]) -> str | None:
    """Return this attempt's run if it has one; close the runs of earlier attempts."""
    task = {key: value for key, value in identity.items() if key != TRY_NUMBER}
    attempts = find_runs(client, experiment, task if TRY_NUMBER in identity else identity)
    number = int(identity.get(TRY_NUMBER, 0))
    own = next((str(run.info.run_id) for run in attempts if _attempt(run) == number), None)
    earlier = [run for run in attempts if _attempt(run) < number]
    if earlier:
        lost = [str(run.info.run_id) for run in earlier if run.info.status == "RUNNING"]
        below = open_runs_below(client, experiment, {str(run.info.run_id) for run in earlier})
        for run_id in [*lost, *below]:
            client.set_terminated(run_id, "KILLED")
    if own:
        client.update_run(own, status="RUNNING")
    return own


def _attempt(run: Run) -> int:
    return int(run.data.tags.get(TRY_NUMBER, 0))


def _close_anyhow(client: MlflowClient, run_id: str, status: str, seconds: float) -> None:
    """Close a run within ``seconds`` or leave it open, but raise nothing.

    In a thread of its own, because MLflow's client tries for minutes to reach a server that is
    away, and because a signal may have interrupted it while it held a lock.
    """

    def close() -> None:
        try:
            client.set_terminated(run_id, status)
        except Exception:  # noqa: BLE001 - what ended the task is the error to see
            _log.warning("MLflow run %s could not be closed as %s", run_id, status, exc_info=True)

    closing = Thread(target=close, daemon=True)
    closing.start()
    closing.join(seconds)
    if closing.is_alive():
        _log.warning("MLflow run %s is left open: no answer within %g s", run_id, seconds)


def _metrics(metrics: Mapping[str, float]) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(name, value, now, 0) for name, value in metrics.items()]
