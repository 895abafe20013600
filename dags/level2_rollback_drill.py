"""Level 2, a fire drill: somebody registers a challenger that fails in service.

No gate saw it. Registering starts `level2_model_delivery`, whose canary has to find it out and
roll it back while the champion goes on answering.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_mlops_provider.assets import model_asset
from airflow_mlops_provider.hooks.mlflow import MlflowHook
from flights.settings import MODEL


@task(outlets=[model_asset(MODEL)])
def register_by_hand() -> str:
    """Register the champion, wrapped in code that raises for flights in the evening."""
    from flights.faulty import register_faulty

    return register_faulty(MlflowHook().tracking_uri)


with DAG(
    "level2_rollback_drill",
    description="Register a challenger that fails in service",
    schedule=None,
    doc_md=__doc__,
    tags=["mlops", "level-2", "flights"],
):
    register_by_hand()
