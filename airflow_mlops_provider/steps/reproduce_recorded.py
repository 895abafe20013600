"""What MLflow knows of a training that is to be done again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from airflow_mlops_provider.exceptions import ModelError, ParameterError
from airflow_mlops_provider.records import EvaluationReport, EvaluationSpec, TrainingSpec
from airflow_mlops_provider.steps.find_runs import find_runs
from airflow_mlops_provider.steps.metadata import (
    DAG_ID,
    ENVIRONMENT_FILE,
    ENVIRONMENT_HASH,
    RUN_ID,
    VERSIONS,
)
from airflow_mlops_provider.steps.register import resolve_version
from airflow_mlops_provider.workspace import exists, join

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_ARTIFACTS = "/mlflow/artifacts/"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")


@dataclass(frozen=True)
class Store:
    """An MLflow store, from which artifacts may have been moved with the workspace.

    The embedded store of a workspace names its artifacts by absolute paths; in a copy of the
    workspace they lie under ``workspace``.
    """

    client: MlflowClient
    workspace: str | None = None

    def fetch(self, location: str, path: str, folder: str) -> Path | None:
        """Download what lies at ``path`` below an artifact location; None if there is nothing."""
        try:
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=join(self._moved(location), path),
                dst_path=folder,
                tracking_uri=self.client.tracking_uri,
            )
        except (MlflowException, OSError):
            return None
        return Path(found) if Path(found).exists() else None

    def json(self, run: Run, path: str, folder: str) -> Any:
        """Return the JSON artifact of a run, or None."""
        found = self.fetch(run.info.artifact_uri, path, f"{folder}/{run.info.run_id}")
        return json.loads(found.read_text()) if found else None

    def _moved(self, location: str) -> str:
        _, separator, below = location.partition(_ARTIFACTS)
        local = "://" not in location or location.startswith("file:")
        if self.workspace is None or not separator or not local or exists(location):
            return location
        return join(self.workspace, _ARTIFACTS, below)


@dataclass(frozen=True)
class Training:
    """A training that ended with a model."""

    run: Run
    pipeline: Run | None
    spec: TrainingSpec
    model_uri: str
    model: Path
    """The model's files, downloaded."""
    environment: dict[str, Any] | None
    """Python and packages of the process that trained, if that was recorded."""

    @property
    def requirements(self) -> dict[str, str]:
        """The packages that the model holds, to their versions."""
        return dict(_REQUIREMENT.findall((self.model / "requirements.txt").read_text()))

    @property
    def python(self) -> str:
        """The version of Python that the model was saved with."""
        return str(Model.load(str(self.model)).flavors["python_function"]["python_version"])

    @property
    def code(self) -> dict[str, str]:
        """Git commit, bundle and DAG version, as far as they were recorded."""
        tags = {**(self.pipeline.data.tags if self.pipeline else {}), **self.run.data.tags}
        wanted = [name for name in VERSIONS if name != ENVIRONMENT_HASH]
        return {name: tags[name] for name in wanted if name in tags}


def find_training(store: Store, subject: str, folder: str) -> Training:
    """Return the training that ``subject`` names, with its model downloaded to ``folder``.

    Args:
        store: Where it was logged.
        subject: Id of the run that trained, or of the pipeline's run around it, or a model URI
            (``models:/name/3``, ``models:/name@alias``, ``models:/m-…``).
        folder: For what is downloaded.

    Raises:
        ParameterError: there is no such run or model, or no training or several in it.
        ModelError: the training left no model, or its files are gone.
    """
    run, spec = _training_run(store, subject, folder)
    model = _model_of(store.client, run)
    files = store.fetch(model.artifact_location, "", f"{folder}/{model.model_id}")
    if files is None:
        raise ModelError(
            f"Expected the model of run {run.info.run_id} at {model.artifact_location}, found "
            "nothing. Restore MLflow's artifacts; for a copied workspace give its place."
        )
    parent = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
    pipeline = store.client.get_run(parent) if parent else None
    holders = [each for each in (run, pipeline) if each]
    recorded = (store.json(each, ENVIRONMENT_FILE, folder) for each in holders)
    environment = next(filter(None, recorded), None)
    return Training(run, pipeline, spec, model.model_uri, files, environment)


def evaluations_of(
    store: Store, training: Training, folder: str
) -> Iterator[tuple[EvaluationSpec, EvaluationReport]]:
    """Yield the evaluations of the model in the same DAG run, and what they were asked for."""
    tags = training.run.data.tags
    identity = {name: tags[name] for name in (DAG_ID, RUN_ID) if name in tags}
    if not identity:
        return
    for run in find_runs(store.client, training.run.info.experiment_id, identity):
        payload = store.json(run, "records/EvaluationReport.json", folder)
        asked = store.json(run, "records/EvaluationSpec.json", folder)
        if payload and asked and payload["model_uri"] == training.model_uri:
            yield EvaluationSpec.from_xcom(asked), EvaluationReport.from_xcom(payload)


def _training_run(store: Store, subject: str, folder: str) -> tuple[Run, TrainingSpec]:
    run = _run(store.client, subject)
    if spec := _spec(store, run, folder):
        return run, spec
    parent = {MLFLOW_PARENT_RUN_ID: run.info.run_id}
    nested = [
        each
        for each in find_runs(store.client, run.info.experiment_id, parent)
        if each.info.status == "FINISHED"
    ]
    found = [(each, spec) for each in nested if (spec := _spec(store, each, folder))]
    if len(found) == 1:
        return found[0]
    tasks = {each.info.run_id: each.data.tags.get("airflow.task_id") for each, _ in found}
    what = (
        f"{len(found)} of them: {tasks}. Name one" if found else "none. Name the run that trained"
    )
    raise ParameterError(
        f"Expected one finished training (a TrainModelOperator or TuneModelOperator) in the run "
        f"{run.info.run_id}, got {what}."
    )


def _run(client: MlflowClient, subject: str) -> Run:
    try:
        return client.get_run(_run_id(client, subject))
    except MlflowException as error:
        raise ParameterError(
            f"Expected a run id or a model URI of {client.tracking_uri}, got {subject!r}: "
            f"{error.message}. Check the id and the tracking URI."
        ) from error


def _run_id(client: MlflowClient, subject: str) -> str:
    if not subject.startswith("models:/"):
        return subject
    if subject.startswith("models:/m-"):
        return str(client.get_logged_model(subject.removeprefix("models:/")).source_run_id)
    version = resolve_version(client, subject)
    if version is None or version.run_id is None:
        found = "no such version" if version is None else "one without a run"
        raise ParameterError(
            f"Expected a version in the registry that a run of ours made at {subject!r}, got "
            f"{found}. Check name, version or alias."
        )
    return version.run_id


def _spec(store: Store, run: Run, folder: str) -> TrainingSpec | None:
    payload = store.json(run, "records/TrainingSpec.json", folder)
    return TrainingSpec.from_xcom(payload) if payload else None


def _model_of(client: MlflowClient, run: Run) -> Any:
    outputs = run.outputs.model_outputs if run.outputs else []
    if not outputs:
        raise ModelError(
            f"Expected a model in run {run.info.run_id} ({run.info.status}), got none: the "
            "training did not end. Clear its task, and reproduce the run that succeeds."
        )
    return client.get_logged_model(outputs[-1].model_id)
