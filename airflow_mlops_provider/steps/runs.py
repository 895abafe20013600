"""Read back what the MLflow runs of a pipeline say: the other end of ``steps/metadata.py``."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import (
    DatasetUse,
    PipelineRunReport,
    PipelineRunSummary,
    TaskRunReport,
)
from airflow_mlops_provider.steps import metadata
from airflow_mlops_provider.steps.find_runs import find_runs, pipeline_runs, quoted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_TRIGGER = {
    metadata.RUN_TYPE: "run_type",
    metadata.USER: "user",
    metadata.LOGICAL_DATE: "logical_date",
    metadata.INTERVAL: "data_interval",
    metadata.CONF: "conf",
    metadata.ASSET_EVENTS: "asset_events",
}
_EXPERIMENTS = 1000


def read_pipeline_run(client: MlflowClient, run: str) -> PipelineRunReport:
    """Return all that MLflow knows of a DAG run.

    Args:
        client: Of the tracking server.
        run: The id of its MLflow run or of any run nested in it, or ``dag_id/run_id``.

    Raises:
        ParameterError: there is no such run, or it is of no DAG run.
    """
    any_run = _run_by_id(client, run) if _RUN_ID.fullmatch(run) else _run_by_name(client, run)
    experiment = any_run.info.experiment_id
    identity = {key: any_run.data.tags[key] for key in (metadata.DAG_ID, metadata.RUN_ID)}
    pipeline = next(iter(pipeline_runs(client, experiment, identity)), None)
    tasks = _task_runs(client, experiment, identity)
    reports = [_task_report(client, task) for task in tasks]
    tags = pipeline.data.tags if pipeline else {}
    span = _span(pipeline) if pipeline else dict.fromkeys(("start", "end", "seconds"))
    return PipelineRunReport(
        dag_id=identity[metadata.DAG_ID],
        run_id=identity[metadata.RUN_ID],
        experiment=client.get_experiment(experiment).name,
        mlflow_run_id=pipeline.info.run_id if pipeline else None,
        status=pipeline.info.status if pipeline else None,
        versions=_versions(tags),
        trigger={name: _parsed(tags[tag]) for tag, name in _TRIGGER.items() if tag in tags},
        champion=_champion([pipeline, *tasks] if pipeline else tasks),
        mlflow_url=_url(client, pipeline) if pipeline else None,
        airflow_url=tags.get(metadata.URL),
        tasks=reports,
        **span,
    )


def list_pipeline_runs(
    client: MlflowClient, *, dag_id: str | None = None, limit: int = 20
) -> list[PipelineRunSummary]:
    """Return the newest DAG runs that MLflow knows, of one DAG or of all, newest first."""
    query = f"tags.`{metadata.KIND}` = '{metadata.PIPELINE}'"
    if dag_id is not None:
        query += f" and tags.`{metadata.DAG_ID}` = {quoted(dag_id)}"
    runs = client.search_runs(_experiments(client), query, max_results=limit)
    return [
        PipelineRunSummary(
            dag_id=run.data.tags[metadata.DAG_ID],
            run_id=run.data.tags[metadata.RUN_ID],
            mlflow_run_id=run.info.run_id,
            status=run.info.status,
            run_type=run.data.tags.get(metadata.RUN_TYPE),
            **_span(run),
        )
        for run in runs
    ]


def _run_by_id(client: MlflowClient, run_id: str) -> Run:
    try:
        run = client.get_run(run_id)
        while metadata.DAG_ID not in run.data.tags:  # a trial knows only the task it belongs to
            run = client.get_run(run.data.tags[MLFLOW_PARENT_RUN_ID])
    except (MlflowException, KeyError) as error:
        raise ParameterError.of("RUN", "runs", "the MLflow run of a DAG run", run_id) from error
    return run


def _run_by_name(client: MlflowClient, name: str) -> Run:
    dag_id, _, run_id = name.partition("/")
    query = (
        f"tags.`{metadata.DAG_ID}` = {quoted(dag_id)} and "
        f"tags.`{metadata.RUN_ID}` = {quoted(run_id)}"
    )
    found = client.search_runs(_experiments(client), query, max_results=1)
    if not found:
        raise ParameterError.of(
            "RUN", "runs", "an MLflow run id, or dag_id/run_id of a tracked DAG run", name
        )
    return found[0]


def _experiments(client: MlflowClient) -> list[str]:
    return [each.experiment_id for each in client.search_experiments(max_results=_EXPERIMENTS)]


def _task_runs(client: MlflowClient, experiment: str, identity: dict[str, str]) -> list[Run]:
    """Return the runs of all attempts, in the order in which they began."""
    runs = find_runs(client, experiment, {**identity, metadata.KIND: metadata.TASK})
    return sorted(runs, key=lambda run: run.info.start_time)


def _task_report(client: MlflowClient, run: Run) -> TaskRunReport:
    tags = run.data.tags
    return TaskRunReport(
        task_id=tags.get(metadata.TASK_ID, run.info.run_name),
        map_index=int(tags.get(metadata.MAP_INDEX, -1)),
        try_number=int(tags.get(metadata.TRY_NUMBER, 1)),
        status=run.info.status,
        operator=tags.get(metadata.OPERATOR),
        mlflow_run_id=run.info.run_id,
        parameters={
            key.removeprefix(metadata.PARAMETER_PREFIX): value
            for key, value in run.data.params.items()
        },
        inputs=[_dataset_use(each) for each in (run.inputs.dataset_inputs if run.inputs else ())],
        outputs={
            key.removeprefix(metadata.RECORD_PREFIX): _parsed(value)
            for key, value in tags.items()
            if key.startswith(metadata.RECORD_PREFIX)
        },
        metrics={
            key: value if math.isfinite(value) else None for key, value in run.data.metrics.items()
        },
        artifacts=_artifacts(client, run.info.run_id),
        versions=_versions(tags),
        mlflow_url=_url(client, run),
        airflow_url=tags.get(metadata.URL),
        **_span(run),
    )


def _dataset_use(used: DatasetInput) -> DatasetUse:
    tags = {tag.key: tag.value for tag in used.tags}
    n_rows = tags.get("n_rows")
    return DatasetUse(
        name=used.dataset.name,
        digest=used.dataset.digest,
        context=tags.get(MLFLOW_DATASET_CONTEXT, ""),
        uri=json.loads(used.dataset.source or "{}").get("uri"),
        n_rows=int(n_rows) if n_rows else None,
    )


def _artifacts(client: MlflowClient, run_id: str) -> list[str]:
    """Return the paths of a run's artifacts, two levels deep."""
    paths = []
    for entry in client.list_artifacts(run_id):
        inside = client.list_artifacts(run_id, entry.path) if entry.is_dir else [entry]
        paths += [f"{each.path}/" if each.is_dir else each.path for each in inside]
    return paths


def _span(run: Run) -> dict[str, Any]:
    """Return when a run began and ended; a run that was opened again has not ended."""
    start = run.info.start_time
    end = None if run.info.status == "RUNNING" else run.info.end_time
    return {
        "start": _iso(start),
        "end": _iso(end),
        "seconds": None if end is None else (end - start) / 1000,
    }


def _iso(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _versions(tags: dict[str, str]) -> dict[str, str]:
    return {tag.removeprefix("mlops."): tags[tag] for tag in metadata.VERSIONS if tag in tags}


def _champion(runs: list[Run]) -> dict[str, Any] | None:
    told = [run.data.tags[metadata.CHAMPION] for run in runs if metadata.CHAMPION in run.data.tags]
    return json.loads(told[0]) if told else None


def _parsed(text: str) -> Any:
    """Return what a tag holds; text, if it is no JSON or was cut."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _url(client: MlflowClient, run: Run) -> str | None:
    return metadata.mlflow_run_url(client.tracking_uri, run.info.experiment_id, run.info.run_id)
