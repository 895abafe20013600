"""Pack a registered model version as one zip for delivery to the edge."""

from airflow_mlops_provider.steps.export.bundle import export_model

__all__ = ["export_model"]
