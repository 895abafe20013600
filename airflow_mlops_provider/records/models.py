"""A model from training to the registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_mlops_provider.records.base import Record
from airflow_mlops_provider.records.data import DatasetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStopping(Record):
    """When an iterative estimator stops learning."""

    fraction: float = 0.1
    """Share of the rows held out to judge by, in (0, 1)."""
    patience: int = 10
    """How many iterations in a row may bring nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec(Record):
    """All it takes to train the same model again."""

    dataset: DatasetRef
    estimator: str | dict[str, Any]
    """Import path of an estimator class or of a function that returns an estimator, or the
    description of a Pipeline (``steps/estimators.py``)."""
    features: list[str]
    target: str
    params: dict[str, Any] = field(default_factory=dict)
    seed: int | None = 0
    """What every ``random_state`` becomes that ``params`` leave open; None for chance."""
    categorical: list[str] = field(default_factory=list)
    """Features that the estimator gets as pandas categories."""
    class_weight: Literal["balanced"] | dict[str, float] | None = None
    """Class (as text) to weight; classes that are not named weigh 1."""
    weight_column: str | None = None
    early_stopping: EarlyStopping | None = None
    serialization: Literal["skops", "cloudpickle"] = "skops"
    trusted_types: list[str] = field(default_factory=list)
    code_paths: list[str] = field(default_factory=list)
    """Files and folders of code that are kept with the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpec(Record):
    """How to look for an estimator's parameters."""

    space: dict[str, dict[str, Any]]
    """Parameter to ``{"type": "float"|"int", "low": …, "high": …, "log": bool}`` or
    ``{"type": "categorical", "choices": […]}``; a grid takes ``points`` (5) of a range."""
    n_trials: int = 20
    n_splits: int = 3
    scoring: str | None = None
    seed: int | None = 0
    method: str = "optuna"
    """``optuna``, ``grid``, ``random`` or ``halving``."""
    cv: str = "time"
    """``time``, ``stratified`` or ``group``."""
    group_column: str | None = None
    pruner: str | None = None
    """``median`` or ``hyperband``; both judge the score of each fold."""
    study: str | None = None
    """Name under which trials are kept; by default a hash of what decides their scores."""
    n_workers: int = 1
    timeout_seconds: float | None = None
    """After it no trial begins."""
    joblib_backend: str = "loky"
    backend_params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRef(Record):
    """A study of trials, and what one worker did for it."""

    name: str
    ran: int
    """Trials that this worker ran to their end."""
    finished: int
    """Trials of all workers that came to an end."""
    best_score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef(Record):
    """A trained model as MLflow logged it, before any registration."""

    model_uri: str
    model_id: str
    run_id: str
    target: str
    features: list[str]
    params: dict[str, Any]
    metrics: dict[str, float]
    train_hash: str
    """Logical hash of the dataset it learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersionRef(Record):
    """A version in the MLflow model registry."""

    name: str
    version: str
    model_uri: str
    model_id: str | None
    """The logged model behind it; None for a version registered from elsewhere."""
    run_id: str | None
    aliases: list[str]
    tags: dict[str, str] = field(default_factory=dict)
