"""Environments that pipelines are delivered to, and what happened in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_mlops_provider.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineEnvironment(Record):
    """Where a pipeline is delivered: an Airflow that follows a ref of a git repository."""

    name: str
    repository: str
    """Path or URL of the git repository, without a password; git has to be able to push."""
    ref: str
    """What the Airflow's ``GitDagBundle`` tracks: a branch, or ``refs/tags/…``."""
    airflow_conn_id: str
    """Connection, of type ``airflow_api``, to the API of that Airflow."""
    bundle: str
    """Name of the ``GitDagBundle`` there."""
    dag_id: str
    """The DAG whose first run is checked."""
    conf: dict[str, Any] = field(default_factory=dict)
    """Of that run."""
    workspace: str | None = None
    """Workspace of that run: its conf has it as ``workspace``, if it is given."""
    metrics_task: str | None = None
    """Task of that run that returns metrics, by name or under ``metrics``."""
    bounds: dict[str, list[float | None]] = field(default_factory=dict)
    """By metric ``[least, greatest]``, None for no limit."""
    approval: bool = False
    """Whether a person is asked before a version goes there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinePromotion(Record):
    """A move of an environment's ref, as the repository's ledger has it."""

    environment: str
    kind: Literal["promotion", "rollback"]
    commit: str
    """Where the ref was moved to."""
    previous: str | None
    """Where it was; None if it was not there."""
    by: str
    """The run that moved it."""
    at: str
    """ISO 8601."""
    known_errors: list[str] = field(default_factory=list)
    """DAG files that could not be imported there before the move."""
    entry: str = ""
    """The ledger's commit that tells of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRunCheck(Record):
    """The first run of a version in an environment."""

    environment: str
    commit: str
    dag_id: str
    run_id: str
    state: str
    metrics: dict[str, float]
    """Those that have bounds."""
