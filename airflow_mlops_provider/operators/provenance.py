"""What Airflow knows of a DAG run and of a task attempt, as tags of their MLflow runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from airflow.sdk.log import redact  # type: ignore[attr-defined]  # it has no other public place

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

_SHA1_DIGITS = 40


def pipeline_tags(context: Context) -> dict[str, str]:
    """Return the tags that name a DAG run in MLflow."""
    ti = context["ti"]
    return {"airflow.dag_id": ti.dag_id, "airflow.run_id": ti.run_id}


def task_tags(context: Context) -> dict[str, str]:
    """Return the tags that name a task attempt within its DAG run."""
    ti = context["ti"]
    return {
        "airflow.task_id": ti.task_id,
        "airflow.map_index": str(ti.map_index),
        "airflow.try_number": str(ti.try_number),
    }


def dag_run_url(context: Context) -> str:
    """Return the page of the DAG run, under ``[api] base_url``."""
    return str(context["ti"].log_url).partition("/tasks/")[0]


def dag_run_facts(context: Context) -> dict[str, str]:
    """Return what a pipeline's run says of itself: page, versions, and why it was triggered."""
    from airflow_mlops_provider.steps import metadata

    ti, url = context["ti"], dag_run_url(context)
    note = f"DAG run [{ti.dag_id} · {ti.run_id}]({url})"
    return metadata.tags_of({**_shared_facts(context, url, note), **_trigger(context)})


def task_facts(operator: BaseOperator, context: Context) -> dict[str, str]:
    """Return what a task's run says of itself: page, operator and versions."""
    from airflow_mlops_provider.steps import metadata

    ti = context["ti"]
    url = str(ti.log_url)
    name = ti.task_id if ti.map_index in (None, -1) else f"{ti.task_id}[{ti.map_index}]"
    note = (
        f"Task [{name}, attempt {ti.try_number}]({url}) of the DAG run "
        f"[{ti.dag_id} · {ti.run_id}]({dag_run_url(context)})"
    )
    kind = type(operator)
    facts = {metadata.OPERATOR: f"{kind.__module__}.{kind.__qualname__}"}
    return metadata.tags_of({**_shared_facts(context, url, note), **facts})


def task_parameters(operator: BaseOperator) -> dict[str, str]:
    """Return an operator's rendered template fields, with what Airflow takes for secrets masked."""
    from airflow_mlops_provider.steps.metadata import parameters_of

    shared = getattr(operator, "shared_template_fields", ())
    fields = {
        name: redact(_named(getattr(operator, name, None)), name)
        for name in operator.template_fields
        if name not in shared
    }
    return parameters_of(fields)


def _named(value: Any) -> Any:
    """Say a function or class by its path: its text holds an address that is new in each run."""
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if callable(value) and name else value


def _shared_facts(context: Context, url: str, note: str) -> dict[str, Any]:
    from mlflow.utils import mlflow_tags

    from airflow_mlops_provider.steps import metadata

    dag_run = context.get("dag_run")
    versions = _versions(context)
    return {
        metadata.URL: url,
        **versions,
        mlflow_tags.MLFLOW_RUN_NOTE: note,
        mlflow_tags.MLFLOW_SOURCE_TYPE: "JOB",
        mlflow_tags.MLFLOW_SOURCE_NAME: _source_name(context),
        mlflow_tags.MLFLOW_GIT_COMMIT: versions[metadata.GIT_COMMIT],
        mlflow_tags.MLFLOW_USER: getattr(dag_run, "triggering_user_name", None),
    }


def _versions(context: Context) -> dict[str, Any]:
    from airflow import __version__ as airflow_version

    from airflow_mlops_provider import __version__
    from airflow_mlops_provider.steps import environment, metadata

    ti = context["ti"]
    bundle = getattr(ti, "bundle_instance", None)
    version = getattr(bundle, "version", None)
    described = environment.environment()
    file = _dag_file(context)
    return {
        metadata.GIT_COMMIT: _commit(version) or (file and environment.git_commit(file)),
        "mlops.dag_version": str(ti.dag_version_id),
        "mlops.dag_file_hash": file and environment.file_hash(file),
        "mlops.bundle_name": getattr(bundle, "name", None),
        "mlops.bundle_version": version,
        "mlops.provider_version": __version__,
        "mlops.airflow_version": airflow_version,
        "mlops.python_version": described["python"],
        metadata.ENVIRONMENT_HASH: environment.environment_hash(described),
    }


def _commit(bundle_version: Any) -> str | None:
    """Return the version of a git bundle, which is a commit; None for those of other bundles."""
    text = str(bundle_version)
    is_commit = len(text) == _SHA1_DIGITS and all(digit in "0123456789abcdef" for digit in text)
    return text if is_commit else None


def _dag_file(context: Context) -> str | None:
    dag = context.get("dag")
    return getattr(dag, "fileloc", None) or None


def _source_name(context: Context) -> str:
    """Return the DAG file's path in its bundle."""
    file = _dag_file(context)
    if file is None:
        return str(context["ti"].dag_id)
    folder = getattr(getattr(context["ti"], "bundle_instance", None), "path", None)
    inside = os.path.relpath(file, folder) if folder else file
    return file if inside.startswith(os.pardir) else inside


def _trigger(context: Context) -> dict[str, Any]:
    """Return how a DAG run came about: who or what triggered it, when, with what."""
    from airflow_mlops_provider.steps import metadata

    dag_run = context.get("dag_run")
    if dag_run is None:
        return {}
    start, end = dag_run.data_interval_start, dag_run.data_interval_end
    events = [_asset_event(event) for event in dag_run.consumed_asset_events]
    return {
        metadata.RUN_TYPE: str(getattr(dag_run.run_type, "value", dag_run.run_type)),
        metadata.USER: dag_run.triggering_user_name,
        metadata.LOGICAL_DATE: dag_run.logical_date and dag_run.logical_date.isoformat(),
        metadata.INTERVAL: start and end and f"{start.isoformat()}/{end.isoformat()}",
        metadata.CONF: redact(dag_run.conf, "conf") or None,
        metadata.ASSET_EVENTS: redact(events, "asset_events") or None,
    }


def _asset_event(event: Any) -> dict[str, Any]:
    """Return an asset event with its evidence, without the tables in it."""
    extra = {key: value for key, value in event.extra.items() if not isinstance(value, list | dict)}
    return {
        "uri": event.asset.uri,
        "timestamp": event.timestamp.isoformat(),
        "source_dag_id": event.source_dag_id,
        "source_run_id": event.source_run_id,
        "source_task_id": event.source_task_id,
        "extra": extra,
    }
