"""Names and places that the DAG files share. Imported at every parse: keep it light."""

from __future__ import annotations

from pathlib import Path

from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.workspace import join

MODEL = "flight_delay"
CHAMPION, CHALLENGER = f"models:/{MODEL}@champion", f"models:/{MODEL}@challenger"
PREVIOUS = f"models:/{MODEL}@previous"
ENDPOINT = "flight-delay"
ESTIMATOR = "flights.model.delay_classifier"

FEATURE_REPO = str(Path(__file__).parent / "feature_repo")
FEATURE_SERVICE = "flight_delay_v1"
SUITE = str(Path(__file__).parent / "suites" / "flights.yaml")
BEHAVIOUR = str(Path(__file__).parent / "behaviour.yaml")
LANDED_FLIGHTS = join(workspace_uri(), "landing", "flights", "*.parquet")
SOURCE_OWNER, SOURCE_LICENSE = "Bureau of Transportation Statistics", "CC0-1.0"
INTENDED_USE = """\
Estimates how likely a flight out of New York arrives more than 15 minutes late, an hour before its
scheduled departure, to plan connections and staff. It is not meant for flights from elsewhere, nor
for decisions about single passengers or crews."""
