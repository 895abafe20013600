"""Models for tests, trained and judged with few words."""

from __future__ import annotations

from airflow_mlops_provider.records import EvaluationSpec, TrainingSpec
from airflow_mlops_provider.steps.estimators import describe
from airflow_mlops_provider.steps.evaluate.judge import evaluate_model
from airflow_mlops_provider.steps.train import train_model


def spec_of(dataset, estimator, **fields):
    return TrainingSpec(dataset=dataset, estimator=describe(estimator), **fields)


def train(dataset, estimator, *, run, **fields):
    """Train as the operator does; ``fields`` are those of a ``TrainingSpec``."""
    factory = estimator if callable(estimator) else None
    return train_model(spec_of(dataset, estimator, **fields), run=run, factory=factory)


def evaluate(model_uri, dataset, *, run, workspace, target="late", **fields):
    """Evaluate as the operator does; ``fields`` are those of an ``EvaluationSpec``."""
    spec = EvaluationSpec(dataset=dataset, target=target, **fields)
    return evaluate_model(model_uri, spec, workspace=workspace, run=run)
