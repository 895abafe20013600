"""What a notebook did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_mlops_provider.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookRun(Record):
    """A notebook that ran to its end, and what it wrote to the MLflow run of its task."""

    run_id: str
    notebook_uri: str
    """The executed notebook, an artifact of the run."""
    parameters: dict[str, Any]
    metrics: dict[str, float]
    """Last values of the run's metrics; those that are not finite are left out."""
    outputs: dict[str, Any]
    """The artifact ``outputs.json``, if the notebook logged one."""
