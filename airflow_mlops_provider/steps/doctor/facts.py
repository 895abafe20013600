"""What is known of a project before anything is concluded from it: plain JSON values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from airflow_mlops_provider.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts(Record):
    """One task of a DAG file."""

    task_id: str
    operator: str
    """As people call it: the name of its class, or ``@task.mlflow_run``."""
    classes: list[str]
    """Its class and the base classes of it that this provider defines, by name."""
    outlets: list[str] = field(default_factory=list)
    """URIs of assets it emits whenever it succeeds."""
    aliased: bool = False
    """Whether it may emit further assets through an ``AssetAlias``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DagFacts(Record):
    """One DAG: what starts it, and its tasks."""

    dag_id: str
    file: str
    """Relative to the DAGs folder."""
    tasks: list[TaskFacts]
    schedule: str | None = None
    """The time schedule in words; None if only assets, watchers or people start it."""
    assets: list[str] = field(default_factory=list)
    """URIs of the assets whose events start it."""
    watchers: list[str] = field(default_factory=list)
    """Classes of the event triggers that feed those assets from outside Airflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CiFile(Record):
    """A configuration of a CI service in the project folder."""

    path: str
    tests: bool
    """Whether it runs tests."""
    builds: bool
    """Whether it builds packages, images or environments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts(Record):
    """What the project folder holds beside its DAGs; paths are relative to it."""

    git: bool = False
    unit_tests: list[str] = field(default_factory=list)
    integration_tests: list[str] = field(default_factory=list)
    ci: list[CiFile] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts(Record):
    """What a service or store said when it was asked."""

    state: Literal["answered", "unknown"]
    """``unknown``: it is down, or nobody said where it is."""
    reason: str | None = None
    """Why it is unknown."""
    found: dict[str, list[str]] = field(default_factory=dict)
    """Evidence by kind; an empty list says that it was looked for in vain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts(Record):
    """All that is known of a project."""

    dags: list[DagFacts] = field(default_factory=list)
    import_errors: dict[str, str] = field(default_factory=dict)
    """Last line of the error, by DAG file."""
    files: FileFacts = field(default_factory=FileFacts)
    services: dict[str, ServiceFacts] = field(default_factory=dict)
    """``mlflow``, ``serving``, ``workspace`` and ``features``, as far as they were asked."""
