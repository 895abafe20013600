"""A commit of a pipeline repository on its way to a published version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from airflow_mlops_provider.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineBuild(Record):
    """The wheel of one commit, and where it came from."""

    repository: str
    commit: str
    tree: str
    """Hash of the files of the commit."""
    author: str
    committed_at: str
    """ISO 8601."""
    subject: str
    """First line of the commit's message."""
    source_uri: str
    """The files of the commit, as ``.tar.gz``."""
    source_sha256: str
    name: str
    version: str
    wheel_uri: str
    wheel_sha256: str
    builders: dict[str, str]
    """What built the wheel: ``python``, ``build``, and ``backend`` as it names itself there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineCheck(Record):
    """One check of a stage."""

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    reason: str
    """What was found, at most some thousand characters; the whole of it is in the artifacts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineTestReport(Record):
    """What lint, tests, DAG integrity and feature plan say of a build."""

    commit: str
    wheel_sha256: str
    checks: list[PipelineCheck]
    n_tests: int
    n_failed: int
    n_skipped: int
    coverage: float | None
    """Share of lines in [0, 1]; None if it was not measured."""
    dags: list[str]
    artifacts: list[str]
    """URIs of logs, JUnit and coverage reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStagingReport(Record):
    """A training run of a build, in a workspace of its own."""

    commit: str
    wheel_sha256: str
    dag_id: str
    checks: list[PipelineCheck]
    metrics: dict[str, float]
    """Last values, by name, at most 100; of several MLflow runs that of the last."""
    endpoints: list[str]
    """What the run served, and was asked."""
    artifacts: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPipeline(Record):
    """A version that can be delivered; what lies at its URIs never changes."""

    name: str
    version: str
    commit: str
    manifest_uri: str
    """Names each file with its sha256; a version without one is not published."""
    wheel_uri: str
    wheel_sha256: str
    source_uri: str
    repository: str
