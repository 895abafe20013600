"""Buttons on a task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

MLFLOW_RUN_KEY = "mlflow_run_url"
"""XCom key of the link; a task that pushes it early has the button while it runs."""


class _PushedLink(BaseOperatorLink):
    """A button to the page whose URL the task pushed."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return what the task pushed; Airflow stores it once more when the task ends."""
        from airflow.sdk.execution_time.xcom import XCom

        return str(XCom.get_value(ti_key=ti_key, key=self.xcom_key) or "")


class MlflowRunLink(_PushedLink):
    """Opens the MLflow run of a task attempt."""

    name = "MLflow run"
    xcom_key = MLFLOW_RUN_KEY


class DataCardLink(_PushedLink):
    """Opens what there is to know of a snapshot."""

    name = "Data card"
    xcom_key = "data_card_url"


class DataDocsLink(_PushedLink):
    """Opens the page of Great Expectations about a validation."""

    name = "Data Docs"
    xcom_key = "data_docs_url"


class DriftReportLink(_PushedLink):
    """Opens the pictures of what drifted."""

    name = "Drift report"
    xcom_key = "drift_report_url"


class BehaviourLink(_PushedLink):
    """Opens the page about the behavioural tests of a model."""

    name = "Behaviour"
    xcom_key = "behaviour_url"


def mlflow_run_url(tracking_uri: str, experiment_id: str, run_id: str) -> str | None:
    """Return the page of a run, or None if the store at ``tracking_uri`` has no pages."""
    if not tracking_uri.startswith(("http://", "https://")):
        return None
    return f"{tracking_uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def artifact_url(run_url: str, path: str) -> str:
    """Return the page of a run's artifact."""
    return f"{run_url}/artifacts/{path}"
