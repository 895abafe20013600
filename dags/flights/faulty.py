"""A challenger that fails in service, to see what its rollout does.

Somebody registers by hand what works on their machine: the champion, wrapped in code that raises
for flights in the evening.
"""

from __future__ import annotations

from pathlib import Path

import mlflow

from flights.settings import CHAMPION, MODEL

_CODE = Path(__file__).with_name("evening_blind.py")


def register_faulty(tracking_uri: str) -> str:
    """Register the faulty model as challenger; return its version."""
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    client = mlflow.MlflowClient(tracking_uri, tracking_uri)
    champion = client.get_model_version_by_alias(MODEL, "champion")
    model = mlflow.pyfunc.load_model(CHAMPION)
    mlflow.set_experiment("by_hand")
    with mlflow.start_run(run_name="evening_blind"):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(_CODE),
            artifacts={"model": CHAMPION},
            signature=model.metadata.signature,
            input_example=model.input_example,
            pip_requirements=mlflow.pyfunc.get_model_dependencies(CHAMPION),
        )
    made = mlflow.register_model(logged.model_uri, MODEL, tags=champion.tags)
    client.set_registered_model_alias(MODEL, "challenger", made.version)
    return str(made.version)
