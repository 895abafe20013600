"""A challenger that fails in service, to see what its rollout does.

Somebody registers by hand what works on their machine: the champion behind a step of their own
that raises for flights in the evening. It is as fast as the champion, so that nothing else about
it can be found out.
"""

from __future__ import annotations

import cloudpickle
import mlflow
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from flights import evening_blind
from flights.settings import CHAMPION, MODEL


def register_faulty(tracking_uri: str) -> str:
    """Register the faulty model as challenger; return its version."""
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    client = mlflow.MlflowClient(tracking_uri, tracking_uri)
    champion = client.get_model_version_by_alias(MODEL, "champion")
    served = mlflow.pyfunc.load_model(CHAMPION)
    cloudpickle.register_pickle_by_value(evening_blind)  # servers do not have this module
    faulty = make_pipeline(
        FunctionTransformer(evening_blind.plan), mlflow.sklearn.load_model(CHAMPION)
    )
    mlflow.set_experiment("by_hand")
    with mlflow.start_run(run_name="evening_blind"):
        logged = mlflow.sklearn.log_model(
            faulty,
            name="model",
            serialization_format="cloudpickle",
            signature=served.metadata.signature,
            input_example=served.input_example,
            pip_requirements=mlflow.pyfunc.get_model_dependencies(CHAMPION),
            pyfunc_predict_fn=served.metadata.flavors["python_function"]["predict_fn"],
        )
    made = mlflow.register_model(logged.model_uri, MODEL, tags=champion.tags)
    client.set_registered_model_alias(MODEL, "challenger", made.version)
    return str(made.version)
