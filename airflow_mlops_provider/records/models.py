"""A model from training to the registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_mlops_provider.records.base import Record
from airflow_mlops_provider.records.data import DatasetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec(Record):
    """All it takes to train the same model again."""

    dataset: DatasetRef
    estimator: str
    """Import path of an estimator class or of a function that returns an estimator."""
    features: list[str]
    target: str
    params: dict[str, Any] = field(default_factory=dict)
    trusted_types: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpec(Record):
    """How to look for an estimator's parameters."""

    space: dict[str, dict[str, Any]]
    """Parameter to ``{"type": "float"|"int", "low": …, "high": …, "log": bool}`` or
    ``{"type": "categorical", "choices": […]}``."""
    n_trials: int = 20
    n_splits: int = 3
    scoring: str | None = None
    seed: int = 0


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
