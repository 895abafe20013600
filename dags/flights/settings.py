"""Names and places that the DAG files share. Imported at every parse: keep it light."""

from __future__ import annotations

from pathlib import Path

from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.workspace import join

MODEL = "flight_delay"
ENDPOINT = "flight-delay"

HERE = Path(__file__).parent
FEATURE_REPO = str(HERE / "feature_repo")
SUITE = str(HERE / "suites" / "flights.yaml")
LANDED_FLIGHTS = join(workspace_uri(), "landing", "flights", "*.parquet")

TIME, TARGET = "event_timestamp", "late"
ESTIMATOR = "flights.model.delay_classifier"
