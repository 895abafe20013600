"""What Airflow learns about this provider, as data."""

from __future__ import annotations

from typing import Any

from airflow_mlops_provider import __version__

_TOKEN_FIELD = {
    "label": "Token",
    "description": "Bearer token, if the service asks for one",
    "schema": {"type": ["string", "null"], "format": "password"},
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's connections, asset schemes and configuration."""
    return {
        "package-name": "airflow-provider-mlops",
        "name": "MLOps",
        "description": "The machine-learning lifecycle as operators, sensors and triggers.",
        "versions": [__version__],
        "connection-types": _connection_types(),
        "task-decorators": [
            {
                "name": "dataset",
                "class-name": "airflow_mlops_provider.decorators.dataset.dataset_task",
            },
            {
                "name": "mlflow_run",
                "class-name": "airflow_mlops_provider.decorators.mlflow_run.mlflow_run_task",
            },
            {
                "name": "expectations",
                "class-name": "airflow_mlops_provider.decorators.expectations.expectations_task",
            },
        ],
        "asset-uris": [
            {
                "schemes": [
                    "mlops-dataset",
                    "mlops-drift",
                    "mlops-performance",
                    "mlops-alert",
                    "mlops-pipeline",
                ],
                "handler": None,
            },
            {"schemes": ["mlflow-model"], "handler": None},
        ],
        "config": _config(),
    }


def _connection_types() -> list[dict[str, Any]]:
    return [
        {
            "connection-type": "mlflow",
            "hook-class-name": "airflow_mlops_provider.hooks.mlflow.MlflowHook",
            "hook-name": "MLflow",
            "conn-fields": {"token": _TOKEN_FIELD},
            "ui-field-behaviour": {
                "hidden-fields": ["schema"],
                "relabeling": {"host": "Tracking URI"},
                "placeholders": {"host": "http://127.0.0.1:5000"},
            },
        },
        {
            "connection-type": "feast",
            "hook-class-name": "airflow_mlops_provider.hooks.feast.FeastHook",
            "hook-name": "Feast",
            "ui-field-behaviour": {
                "hidden-fields": ["host", "port", "schema", "login", "password"],
                "relabeling": {"extra": "Overrides of feature_store.yaml"},
                "placeholders": {
                    "extra": '{"registry": {"registry_type": "sql", "path": "postgresql://..."}}'
                },
            },
        },
        {
            "connection-type": "mlops_serving",
            "hook-class-name": "airflow_mlops_provider.hooks.serving.ServingHook",
            "hook-name": "MLOps serving host",
            "conn-fields": {"token": _TOKEN_FIELD},
            "ui-field-behaviour": {
                "hidden-fields": ["schema", "login", "password"],
                "relabeling": {"host": "Admin URL"},
                "placeholders": {"host": "http://127.0.0.1:8600"},
            },
        },
        {
            "connection-type": "airflow_api",
            "hook-class-name": "airflow_mlops_provider.hooks.airflow_api.AirflowApiHook",
            "hook-name": "Airflow API",
            "conn-fields": {"token": _TOKEN_FIELD},
            "ui-field-behaviour": {
                "hidden-fields": ["schema"],
                "relabeling": {"host": "URL of the API server"},
                "placeholders": {"host": "https://airflow.example.com"},
            },
        },
    ]


def _config() -> dict[str, Any]:
    return {
        "mlops": {
            "description": "Settings of the MLOps provider.",
            "options": {
                "workspace": {
                    "description": (
                        "fsspec URI under which datasets, profiles, reports and logs are kept. "
                        "Empty means the folder `mlops`; a relative path lies beside the DAGs "
                        "folder."
                    ),
                    "version_added": "0.1.0",
                    "type": "string",
                    "example": "s3://bucket/mlops",
                    "default": "",
                },
            },
        }
    }
