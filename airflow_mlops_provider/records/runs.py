"""What is known of a pipeline run afterwards, read back from MLflow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_mlops_provider.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetUse(Record):
    """A dataset that a task touched."""

    name: str
    digest: str
    """The first 36 digits of its logical hash."""
    context: str
    """What it was used for: ``snapshot``, ``training``..."""
    uri: str | None
    n_rows: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRunReport(Record):
    """One attempt of one task."""

    task_id: str
    map_index: int
    try_number: int
    status: str
    """``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``."""
    operator: str | None
    mlflow_run_id: str
    start: str | None
    """ISO 8601, as ``end``."""
    end: str | None
    seconds: float | None
    parameters: dict[str, str]
    """The operator's rendered arguments, secrets masked, and the parameters of its model."""
    inputs: list[DatasetUse]
    outputs: dict[str, Any]
    """Name of a record's class to its fields; those with long tables come without them."""
    metrics: dict[str, float | None]
    """The last value of each; None for one that is no finite number."""
    artifacts: list[str]
    """Paths in the MLflow run; folders end in ``/``."""
    versions: dict[str, str]
    mlflow_url: str | None
    airflow_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRunSummary(Record):
    """A DAG run in a list of many."""

    dag_id: str
    run_id: str
    mlflow_run_id: str
    status: str
    start: str | None
    """ISO 8601, as ``end``."""
    end: str | None
    seconds: float | None
    run_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRunReport(Record):
    """All that was recorded of a DAG run: where it came from, and each attempt of its tasks.

    A DAG without :class:`StartPipelineRunOperator` has tasks but no run of its own in MLflow;
    what only that knows is None or empty.
    """

    dag_id: str
    run_id: str
    experiment: str
    mlflow_run_id: str | None
    status: str | None
    start: str | None
    """ISO 8601, as ``end``."""
    end: str | None
    seconds: float | None
    versions: dict[str, str]
    """Code, packages and interpreter by the name of their tag, without ``mlops.``."""
    trigger: dict[str, Any]
    """How the run came about: type, user, dates, conf, and the asset events with their extra."""
    champion: dict[str, Any] | None
    """``model_uri`` and ``metrics`` of the model that the challenger was held against."""
    mlflow_url: str | None
    airflow_url: str | None
    tasks: list[TaskRunReport] = field(default_factory=list)
    """In the order in which they began."""
