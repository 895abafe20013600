"""What MLflow knows of where a model came from, and the model's card, which is kept there."""

from __future__ import annotations

import logging
import tempfile
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from airflow_mlops_provider.exceptions import RecordError
from airflow_mlops_provider.records import TrainingSpec
from airflow_mlops_provider.steps.metadata import (
    DAG_ID,
    GIT_COMMIT,
    RUN_ID,
    TASK_ID,
    URL,
    artifact_url,
    mlflow_run_url,
)
from airflow_mlops_provider.steps.model_card import Origin
from airflow_mlops_provider.steps.model_card_text import as_description, as_markdown, as_page
from airflow_mlops_provider.steps.registry_errors import is_absent
from airflow_mlops_provider.steps.reproduce_recorded import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from airflow_mlops_provider.steps.model_card import ModelCard
    from airflow_mlops_provider.steps.track import TaskRun

PAGE, TEXT = "model_card.html", "model_card.md"
_log = logging.getLogger(__name__)
_FACTS = {
    "DAG": DAG_ID,
    "DAG run": RUN_ID,
    "Task": TASK_ID,
    "Git commit": GIT_COMMIT,
    "Provider": "mlops.provider_version",
    "Python": "mlops.python_version",
}


def origin_of(client: MlflowClient, run_id: str) -> Origin:
    """Return where the model of a run came from; what was not recorded is left out."""
    run = _found(client, run_id)
    if run is None:
        return Origin()
    parent = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
    pipeline = _found(client, parent) if parent else None
    tags = {**(pipeline.data.tags if pipeline else {}), **run.data.tags}
    facts = {label: tags[tag] for label, tag in _FACTS.items() if tag in tags}
    links = {"Task": tags.get(URL), "Training run": _page(client, run)}
    if pipeline is not None:
        facts["Pipeline run"] = pipeline.info.run_id
        links["Pipeline run"] = _page(client, pipeline)
        links["DAG run"] = pipeline.data.tags.get(URL)
    known = {label: url for label, url in links.items() if url}
    return Origin(_spec(client, run), facts, known)


def keep_card(run: TaskRun, card: ModelCard) -> None:
    """Keep a card in ``run``, and its short form as the description of its version."""
    run.client.log_text(run.run_id, as_markdown(card), TEXT)
    run.log_page(as_page(card), PAGE)
    url = mlflow_run_url(run.client.tracking_uri, run.experiment_id, run.run_id)
    text = as_description(card, url and artifact_url(url, PAGE))
    run.client.update_model_version(card.version.name, card.version.version, text)


def _found(client: MlflowClient, run_id: str) -> Run | None:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def _page(client: MlflowClient, run: Run) -> str | None:
    return mlflow_run_url(client.tracking_uri, run.info.experiment_id, run.info.run_id)


def _spec(client: MlflowClient, run: Run) -> TrainingSpec | None:
    """Return what a run was trained by; None if that is lost, or of another version of ours."""
    with tempfile.TemporaryDirectory(prefix="mlops-card-") as folder:
        try:
            payload = Store(client).json(run, "records/TrainingSpec.json", folder)
            return TrainingSpec.from_xcom(payload) if payload else None
        except (RecordError, ValueError) as error:
            _log.warning("The card does without the training's record: %s", error)
            return None
