"""The assets by which DAGs wake each other; their schemes are registered by this provider."""

from __future__ import annotations

from airflow.sdk import Asset

from airflow_mlops_provider.workspace import checked_name


def dataset_asset(name: str) -> Asset:
    """Return ``mlops-dataset://name``: a new snapshot of the dataset exists."""
    return _asset("mlops-dataset", name)


def model_asset(name: str) -> Asset:
    """Return ``mlflow-model://name``: a new version of the registered model exists."""
    return _asset("mlflow-model", name)


def drift_asset(name: str) -> Asset:
    """Return ``mlops-drift://name``: the inputs of the endpoint or dataset moved."""
    return _asset("mlops-drift", name)


def performance_asset(name: str) -> Asset:
    """Return ``mlops-performance://name``: the endpoint's model is worse than it was."""
    return _asset("mlops-performance", name)


def alert_asset(name: str) -> Asset:
    """Return ``mlops-alert://name``: something else about the endpoint asks for a look."""
    return _asset("mlops-alert", name)


def pipeline_asset(name: str) -> Asset:
    """Return ``mlops-pipeline://name``: a new version of the pipeline is published."""
    return _asset("mlops-pipeline", name)


def _asset(scheme: str, name: str) -> Asset:
    checked = checked_name(name, "name", f"{scheme.removeprefix('mlops-')} asset")
    return Asset(f"{scheme}://{checked}")
