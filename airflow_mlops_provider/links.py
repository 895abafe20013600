"""Buttons on a task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

MLFLOW_RUN_KEY = "mlflow_run_url"
"""XCom key of the link; a task that pushes it early has the button while it runs."""


class MlflowRunLink(BaseOperatorLink):
    """Opens the MLflow run of a task attempt."""

    name = "MLflow run"

    @property
    def xcom_key(self) -> str:
        """The XCom key that Airflow's pages read the link from."""
        return MLFLOW_RUN_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return what the task pushed; Airflow stores it once more when the task ends."""
        from airflow.sdk.execution_time.xcom import XCom

        return str(XCom.get_value(ti_key=ti_key, key=MLFLOW_RUN_KEY) or "")


def mlflow_run_url(tracking_uri: str, experiment_id: str, run_id: str) -> str | None:
    """Return the page of a run, or None if the store at ``tracking_uri`` has no pages."""
    if not tracking_uri.startswith(("http://", "https://")):
        return None
    return f"{tracking_uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
