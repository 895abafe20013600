"""Train a model again from what was recorded, and say precisely what differs.

1. ``reproduce_recorded.py`` finds the training, its model and its evaluations in MLflow.
2. The environment, then the dataset are held against what was recorded.
3. The model is trained again, in a run of its own.
4. ``reproduce_compare.py`` compares code, parameters, predictions and metrics.
5. If predictions differ, a second training tells chance from a changed input.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import fsspec
import mlflow
import numpy as np
import pyarrow.parquet as pq

from airflow_mlops_provider.exceptions import MlopsError, ModelError, ParameterError
from airflow_mlops_provider.records import (
    DatasetRef,
    Difference,
    EvaluationReport,
    EvaluationSpec,
    PredictionComparison,
    ReproductionReport,
    TrainingSpec,
)
from airflow_mlops_provider.steps.evaluate.judge import measure_model
from airflow_mlops_provider.steps.metadata import GIT_COMMIT
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.steps.reproduce_compare import (
    code_differences,
    compare_predictions,
    compared,
    dataset_differences,
    environment_differences,
    metric_differences,
    parameter_differences,
    prediction_difference,
)
from airflow_mlops_provider.steps.reproduce_recorded import (
    Store,
    Training,
    evaluations_of,
    find_training,
)
from airflow_mlops_provider.steps.snapshot import read_dataset
from airflow_mlops_provider.steps.track import TaskRun
from airflow_mlops_provider.steps.train import train_model
from airflow_mlops_provider.workspace import exists, file_hash, join

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from numpy.typing import NDArray

REPRODUCES = "mlops.reproduces"
"""Tag of a run that trained again: the run that it repeats."""


@dataclass(frozen=True)
class Room:
    """Where to train again, and where the data lie by now.

    Args:
        client: Store of the new runs.
        experiment: Id of their experiment.
        dataset_uri: Where the training dataset lies, if not where it was.
        workspace: Copy of the workspace in which to look for datasets.
    """

    client: MlflowClient
    experiment: str
    dataset_uri: str | None = None
    workspace: str | None = None

    def dataset(self, recorded: DatasetRef) -> DatasetRef:
        """Return the training dataset with the URI it has by now."""
        return replace(recorded, uri=self.dataset_uri or self.moved(recorded.uri, recorded.name))

    def moved(self, uri: str, name: str) -> str:
        """Return where a file of the workspace's datasets lies by now."""
        if self.workspace is None:
            return uri
        return join(self.workspace, "datasets", name, uri.rpartition("/")[2])


@dataclass
class _Findings:
    """What is known so far."""

    training: Training
    differences: list[Difference] = field(default_factory=list)
    predictions: PredictionComparison | None = None
    deterministic: bool | None = None
    checked: list[str] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)
    reproduced_run_id: str | None = None

    def report(self, reason: str | None = None) -> ReproductionReport:
        training = self.training
        same = not any(each.matters for each in self.differences)
        return ReproductionReport(
            outcome="cannot" if reason else "identical" if same else "differs",
            run_id=training.run.info.run_id,
            model_uri=training.model_uri,
            differences=self.differences,
            predictions=self.predictions,
            deterministic=self.deterministic,
            checked=self.checked,
            code=training.code,
            not_compared=self.not_compared,
            reproduced_run_id=self.reproduced_run_id,
            reason=reason,
        )


def reproduce_run(store: Store, subject: str, room: Room) -> ReproductionReport:
    """Train again what ``subject`` names and compare.

    Args:
        store: Where it was logged.
        subject: Id of the run that trained or of its pipeline's run, or a model URI.
        room: Where to train again; the new run has the tag ``mlops.reproduces``.

    Raises:
        ParameterError: ``subject`` names no training.
        ModelError: its model is gone.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-reproduce-") as folder:
        findings = _Findings(find_training(store, subject, folder))
        try:
            _repeat(store, room, findings, folder)
        except MlopsError as error:
            return findings.report(reason=str(error))
        return findings.report()


def _repeat(store: Store, room: Room, findings: _Findings, folder: str) -> None:
    training, differences = findings.training, findings.differences
    spec = replace(training.spec, dataset=room.dataset(training.spec.dataset))
    if training.environment is None:
        findings.not_compared.append("packages that are not the model's (not recorded)")
    if GIT_COMMIT not in training.code:
        findings.not_compared.append("git commit (not recorded)")
    differences += environment_differences(training)
    differences.extend(dataset_differences(spec.dataset))
    before = _load(str(training.model), training.model_uri)
    with _new_run(room, training) as run:
        findings.reproduced_run_id = run.run_id
        try:
            again = _train(spec, run, folder)
        finally:
            logged = room.client.get_run(run.run_id)
            differences += code_differences(training.run, logged)
        differences += parameter_differences(
            training.run, logged, before.get_raw_model(), again.model.get_raw_model()
        )
        _compare_metrics(again, findings)
        _compare_predictions(before, again, spec, findings)
        for asked, report in evaluations_of(store, training, folder):
            _evaluate_again(asked, report, again, room, findings)
    if findings.predictions and findings.predictions.differing:
        findings.deterministic = _is_deterministic(spec, again, room, training, folder)


@dataclass(frozen=True)
class _Again:
    """A model that was trained again."""

    path: str
    model: Any
    metrics: dict[str, float]


def _train(spec: TrainingSpec, run: TaskRun, folder: str) -> _Again:
    try:
        ref = train_model(spec, run=run)
    except ParameterError as error:
        raise ParameterError(
            f"{error} If its code is not on the path, give its folder (--dags-folder); what was "
            "written in a DAG file itself has no import path, and belongs in a module beside it."
        ) from error
    except MlopsError:
        raise
    except Exception as error:
        raise ModelError(f"Training again fails with {type(error).__name__}: {error}.") from error
    location = run.client.get_logged_model(ref.model_id).artifact_location
    path = Store(run.client).fetch(location, "", f"{folder}/{ref.model_id}")
    return _Again(str(path), _load(str(path), ref.model_uri), ref.metrics)


def _is_deterministic(
    spec: TrainingSpec, first: _Again, room: Room, training: Training, folder: str
) -> bool:
    with _new_run(room, training) as run:
        second = _train(spec, run, folder)
    found = compare_predictions(_predict(first.model, spec), _predict(second.model, spec))
    return found.differing == 0


@contextmanager
def _new_run(room: Room, training: Training) -> Iterator[TaskRun]:
    original = training.run.info.run_id
    tags = {REPRODUCES: original}
    created = room.client.create_run(room.experiment, tags=tags, run_name=f"again {original[:8]}")
    run_id = str(created.info.run_id)
    try:
        yield TaskRun(room.client, run_id, room.experiment)
    except BaseException:
        room.client.set_terminated(run_id, "FAILED")
        raise
    room.client.set_terminated(run_id, "FINISHED")


def _compare_metrics(again: _Again, findings: _Findings) -> None:
    recorded = findings.training.run.data.metrics
    names = compared(again.metrics).keys() & recorded.keys()
    before, now = ({name: each[name] for name in names} for each in (recorded, again.metrics))
    findings.differences += metric_differences("metric", before, now)
    findings.checked += sorted(names)


def _compare_predictions(
    before: Any, again: _Again, spec: TrainingSpec, findings: _Findings
) -> None:
    found = compare_predictions(_predict(before, spec), _predict(again.model, spec))
    findings.predictions = found
    findings.differences += filter(None, [prediction_difference(found)])


def _evaluate_again(
    asked: EvaluationSpec,
    report: EvaluationReport,
    again: _Again,
    room: Room,
    findings: _Findings,
) -> None:
    *_, name, file = report.dataset_uri.split("/")
    uri = room.moved(report.dataset_uri, name)
    if not exists(uri):
        findings.not_compared.append(f"the evaluation on {name} ({uri} is gone)")
        return
    dataset = _dataset_at(uri, name)
    if (recorded := file.partition(".")[0]) != dataset.file_hash:
        findings.differences.append(
            Difference(
                kind="dataset",
                name=f"{name} (file hash, of the evaluation)",
                recorded=recorded,
                found=dataset.file_hash,
            )
        )
    found = measure_model(again.model, replace(asked, dataset=dataset))
    before, now = (
        {f"{metric} on {name}": each[metric].value for metric in each}
        for each in (report.metrics, found)
    )
    findings.differences += metric_differences("evaluation", before, now)
    findings.checked += before


def _dataset_at(uri: str, name: str) -> DatasetRef:
    """Return what the file itself tells of a dataset."""
    with readable(uri), fsspec.open(uri, "rb") as file:
        schema = pq.ParquetFile(file)
        columns = {field.name: str(field.type) for field in schema.schema_arrow}
        return DatasetRef(
            name=name,
            uri=uri,
            file_hash=file_hash(uri),
            logical_hash="",
            schema_hash="",
            n_rows=schema.metadata.num_rows,
            columns=columns,
            source=uri,
        )


def _predict(model: Any, spec: TrainingSpec) -> NDArray[Any]:
    """Return what a model says of each row it learned from, shape (n,) or (n, classes)."""
    frame = read_dataset(spec.dataset, columns=[*spec.features, spec.target])
    rows = frame.loc[frame[spec.target].notna(), spec.features]
    numbers = rows.select_dtypes(include=["integer", "bool"]).columns
    with _usable("predict with"):
        return np.asarray(model.predict(rows.astype(dict.fromkeys(numbers, float))))


def _load(path: str, model_uri: str) -> Any:
    with _usable(f"load {model_uri},"):
        return mlflow.pyfunc.load_model(path)


@contextmanager
def _usable(what: str) -> Iterator[None]:
    """Say that a model does not work here, whatever its libraries raise for it."""
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"Cannot {what} the recorded model: {type(error).__name__}: {str(error).rstrip('.')}. "
            "Use the versions of its libraries that were recorded, or give the folder of its code."
        ) from error
