"""What later data is measured against: a drift profile and a suite of expectations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlops_provider.steps.baseline import infer_suite, suite_yaml
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.workspace import join, store_by_content, write_bytes

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef
    from airflow_mlops_provider.steps.track import TaskRun


@dataclass(frozen=True)
class Reference:
    """Where profile and suite of a dataset lie."""

    profile_uri: str
    suite_uri: str
    suite: str
    """The suite itself, in YAML."""


def keep_reference(
    dataset: DatasetRef,
    *,
    workspace: str,
    columns: Sequence[str] | None = None,
    segments: Sequence[str] = (),
    sample_rows: int = 0,
    suite_name: str | None = None,
) -> Reference:
    """Profile a dataset and infer a suite from it; both lie in the workspace by content.

    Args:
        dataset: The reference, usually what a model is trained on.
        workspace: fsspec URI; the suite lies under ``suites/``, the profile under ``profiles/``.
        columns: Columns to profile and to expect something of; None takes all that can be.
        segments: Columns whose values are compared one by one later on.
        sample_rows: Rows that the profile keeps.
        suite_name: Name of the suite; None takes the dataset's.

    Raises:
        DataError: a column is unknown or cannot be profiled.
    """
    profile_uri = profile_dataset(
        dataset, columns, workspace, segments=segments, sample_rows=sample_rows
    )
    suite = suite_yaml(infer_suite(dataset, name=suite_name or dataset.name, columns=columns))
    suite_uri, _ = store_by_content(
        join(workspace, "suites"), ".yaml", lambda target: write_bytes(target, suite.encode())
    )
    return Reference(profile_uri, suite_uri, suite)


def log_reference(run: TaskRun, reference: Reference) -> None:
    """Keep the suite for review, and where both lie, in the MLflow run of the task."""
    run.client.log_text(run.run_id, reference.suite, "suite.yaml")
    run.client.set_tag(run.run_id, "mlops.profile_uri", reference.profile_uri)
    run.client.set_tag(run.run_id, "mlops.suite_uri", reference.suite_uri)
