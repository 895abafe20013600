"""What the MLflow runs of a pipeline say of themselves: names of tags, and how values fit in.

Everything small is a tag or a parameter, so that one search reads a whole pipeline run back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops_provider.records import Record

KIND = "mlops.kind"
PIPELINE, TASK = "pipeline", "task"
DAG_ID, RUN_ID = "airflow.dag_id", "airflow.run_id"
TASK_ID, MAP_INDEX, TRY_NUMBER = "airflow.task_id", "airflow.map_index", "airflow.try_number"
URL, OPERATOR = "airflow.url", "airflow.operator"
RUN_TYPE, USER, CONF = "airflow.run_type", "airflow.triggering_user", "airflow.conf"
ASSET_EVENTS = "airflow.asset_events"
LOGICAL_DATE, INTERVAL = "airflow.logical_date", "airflow.data_interval"
GIT_COMMIT = "mlops.git_commit"
ENVIRONMENT_HASH, ENVIRONMENT_FILE = "mlops.environment_hash", "environment.json"
VERSIONS = (
    GIT_COMMIT,
    "mlops.dag_version",
    "mlops.dag_file_hash",
    "mlops.bundle_name",
    "mlops.bundle_version",
    "mlops.provider_version",
    "mlops.airflow_version",
    "mlops.python_version",
    ENVIRONMENT_HASH,
)
"""What it takes to find the code and the packages of a run again."""
CHAMPION = "mlops.champion"
"""JSON with ``model_uri`` and ``metrics`` of the model that a challenger was held against."""
RECORD_PREFIX, PARAMETER_PREFIX = "mlops.record.", "task."

_TAG_LENGTH, _PARAMETER_LENGTH, _PARAMETERS = 5000, 500, 90  # MLflow: 8000, 6000, 100 a request


def tags_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return facts as tags: no ``None``, anything but text as JSON, nothing too long."""
    return {
        key: shortened(value if isinstance(value, str) else as_json(value), _TAG_LENGTH)
        for key, value in facts.items()
        if value is not None
    }


def parameters_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return a task's arguments as MLflow parameters, named apart from those of a model."""
    given = {key: value for key, value in fields.items() if value is not None}
    return {
        f"{PARAMETER_PREFIX}{key}": shortened(
            value if isinstance(value, str) else as_json(value), _PARAMETER_LENGTH
        )
        for key, value in list(given.items())[:_PARAMETERS]
    }


def record_tag(record: Record) -> tuple[str, str]:
    """Return a record as a tag; one that is too long without its tables."""
    payload = record.to_xcom()
    told = as_json(payload)
    if len(told) > _TAG_LENGTH:
        flat = {k: v for k, v in payload.items() if not isinstance(v, list | dict)}
        told = as_json(flat)
    return f"{RECORD_PREFIX}{type(record).__name__}", shortened(told, _TAG_LENGTH)


def mlflow_run_url(tracking_uri: str, experiment_id: str, run_id: str) -> str | None:
    """Return the page of a run, or None if the store at ``tracking_uri`` has no pages."""
    if not tracking_uri.startswith(("http://", "https://")):
        return None
    return f"{tracking_uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def artifact_url(run_url: str, path: str) -> str:
    """Return the page of a run's artifact."""
    return f"{run_url}/artifacts/{path}"


def as_json(value: Any) -> str:
    """Return JSON of any value; what JSON does not know is told as text."""
    return json.dumps(value, default=str)


def shortened(text: str, length: int) -> str:
    """Cut ``text`` to ``length`` characters, and show that it was cut."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
