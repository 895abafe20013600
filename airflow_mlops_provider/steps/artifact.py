"""Whether a model's files stand by themselves: loaded elsewhere, they answer as they do here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from airflow_mlops_provider.declared import declared_by
from airflow_mlops_provider.exceptions import ModelError, ParameterError
from airflow_mlops_provider.records import ArtifactCheck
from airflow_mlops_provider.steps.artifact_answers import example_answers
from airflow_mlops_provider.steps.evaluate import load_model, predict_answers
from airflow_mlops_provider.steps.snapshot import read_dataset

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from airflow_mlops_provider.declared import Declared
    from airflow_mlops_provider.records import DatasetRef

ENVIRONMENTS = ("local", "declared")


def check_artifact(
    model_uri: str,
    dataset: DatasetRef,
    ask: Callable[[str, str, Declared], Mapping[str, Any]],
    *,
    environment: Literal["local", "declared"] = "local",
    n_rows: int = 200,
    tolerance: float = 1e-6,
) -> ArtifactCheck:
    """Compare what a model answers here and in a clean process.

    Args:
        model_uri: A model of the registry or of a run.
        dataset: Real rows, with the model's features; ``n_rows`` of them are taken evenly.
        ask: Calls :func:`~airflow_mlops_provider.steps.artifact_answers.answer_rows` there; only
            once the model was found to be one that may be loaded.
        environment: What the process is made of; for the record.
        n_rows: At most so many rows.
        tolerance: How far an answer may be off, absolutely and relatively.

    Raises:
        ModelError: the model cannot be loaded or asked, here or there.
        DataError: the dataset is gone.
        ParameterError: ``n_rows`` or ``tolerance`` is out of range.
    """
    if n_rows < 1:
        raise ParameterError.of("n_rows", "check_artifact", "at least 1", n_rows)
    if tolerance < 0:
        raise ParameterError.of("tolerance", "check_artifact", "zero or positive", tolerance)
    model = load_model(model_uri)
    rows = _some_rows(dataset, n_rows)
    ours = [predict_answers(model, rows), example_answers(model)]
    with TemporaryDirectory(prefix="mlops-artifact-") as folder:
        file = f"{folder}/rows.parquet"
        rows.to_parquet(file)
        theirs = ask(model_uri, file, declared_by(model_uri))
    gaps = np.concatenate(
        [
            _gaps(expected, np.asarray(theirs[name], dtype=float), model_uri)
            for name, expected in zip(("answers", "example"), ours, strict=True)
            if expected is not None
        ]
    )
    allowed = tolerance * (1 + np.concatenate([_sizes(each) for each in ours if each is not None]))
    differing = int((gaps > allowed).sum())
    return ArtifactCheck(
        model_uri=model_uri,
        environment=environment,
        outcome="failed" if differing else "passed",
        n=len(gaps),
        n_differing=differing,
        largest_difference=float(gaps.max()),
        tolerance=tolerance,
        seconds=theirs["seconds"],
        python=theirs["python"],
        different_requirements=list(theirs["different"]),
    )


def _some_rows(dataset: DatasetRef, n_rows: int) -> pd.DataFrame:
    frame = read_dataset(dataset)
    taken = np.linspace(0, len(frame) - 1, min(n_rows, len(frame))).astype(np.intp)
    return frame.iloc[taken].reset_index(drop=True)


def _gaps(ours: NDArray[Any], theirs: NDArray[Any], model_uri: str) -> NDArray[Any]:
    if ours.shape != theirs.shape:
        raise ModelError(
            f"Expected answers of shape {ours.shape} of {model_uri!r} in a clean process, got "
            f"{theirs.shape}. Its code depends on where it runs: keep that with the model."
        )
    return np.asarray(np.abs(ours - theirs).reshape(len(ours), -1).max(axis=1))


def _sizes(answers: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.abs(answers).reshape(len(answers), -1).max(axis=1))
