"""Models for tests, trained with few words."""

from __future__ import annotations

from airflow_mlops_provider.records import TrainingSpec
from airflow_mlops_provider.steps.estimators import describe
from airflow_mlops_provider.steps.train import train_model


def spec_of(dataset, estimator, **fields):
    return TrainingSpec(dataset=dataset, estimator=describe(estimator), **fields)


def train(dataset, estimator, *, run, **fields):
    """Train as the operator does; ``fields`` are those of a ``TrainingSpec``."""
    factory = estimator if callable(estimator) else None
    return train_model(spec_of(dataset, estimator, **fields), run=run, factory=factory)
