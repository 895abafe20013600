"""Buttons on a task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from airflow.sdk import BaseOperatorLink, conf

from airflow_mlops_provider.hooks.serving import ServingHook

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

PREFIX = "/mlops"
"""Where the provider's own pages lie on Airflow's web server."""
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


class EvaluationLink(_PushedLink):
    """Opens the figures and pictures of an evaluation."""

    name = "Evaluation"
    xcom_key = "evaluation_url"


class DriftReportLink(_PushedLink):
    """Opens the pictures of what drifted."""

    name = "Drift report"
    xcom_key = "drift_report_url"


class MonitoringLink(_PushedLink):
    """Opens the report on live traffic."""

    name = "Monitoring report"
    xcom_key = "monitoring_report_url"


class NotebookLink(_PushedLink):
    """Opens the notebook that a task executed."""

    name = "Notebook"
    xcom_key = "notebook_url"


class BehaviourLink(_PushedLink):
    """Opens the page about the behavioural tests of a model."""

    name = "Behaviour"
    xcom_key = "behaviour_url"


class ModelCardLink(_PushedLink):
    """Opens what there is to know of a model."""

    name = "Model card"
    xcom_key = "model_card_url"


class RetrainingLink(_PushedLink):
    """Opens what started a training, and why it was or was not worth one."""

    name = "Why this run"
    xcom_key = "retraining_url"


class RolloutLink(_PushedLink):
    """Opens the page on which a rollout is watched while it runs."""

    name = "Rollout"
    xcom_key = "rollout_url"


def page_path(page: str) -> str:
    """Return the path of one of our pages as browsers see it, also behind a proxy's prefix."""
    base = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    return f"{base}{PREFIX}/{page}"


def retraining_url(dag_id: str, run_id: str) -> str:
    """Return the path of the page that says what started a DAG run."""
    return page_path(f"retraining?{urlencode({'dag_id': dag_id, 'run_id': run_id})}")


def rollout_url(endpoint: str, serving_conn_id: str) -> str:
    """Return the path of the page about the rollout of an endpoint."""
    page = page_path(f"rollouts/{quote(endpoint, safe='')}")
    default = serving_conn_id == ServingHook.default_conn_name
    return page if default else f"{page}?connection={quote(serving_conn_id, safe='')}"
