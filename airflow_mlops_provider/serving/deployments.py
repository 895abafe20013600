"""The ``mlops-local`` target of ``mlflow.deployments``, a thin form of ``ServingClient``.

Targets: ``mlops-local:/path/to/workspace``, whose serving host is found through the workspace,
or ``mlops-local://host:port``, with the token in the variable ``MLOPS_SERVING_TOKEN``.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow.deployments import BaseDeploymentClient

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.serving.client import ServingClient
from airflow_mlops_provider.serving.options import DeploymentOptions
from airflow_mlops_provider.serving.state import valid_name

if TYPE_CHECKING:
    from airflow_mlops_provider.records import EndpointRef

TOKEN_VARIABLE = "MLOPS_SERVING_TOKEN"  # noqa: S105 - the name of a variable, not a token


def run_local(
    target: str,
    name: str,
    model_uri: str,
    flavor: str | None = None,
    config: dict[str, Any] | None = None,
) -> None:
    """Serve one model in the foreground, without router.

    Args:
        target: Not used: the model is served right here.
        name: Name of the deployment.
        model_uri: Model in MLflow's registry.
        flavor: Not used: models are served as their flavor says.
        config: ``port``, by default any free one, and what a scorer itself acts on of
            ``serving/options.py``.
    """
    import mlflow

    from airflow_mlops_provider.serving import scorer

    wanted = dict(config or {})
    arguments = {
        "endpoint": "local",
        "deployment": valid_name("deployment", name),
        "model-uri": model_uri,
        "tracking-uri": mlflow.get_tracking_uri(),
        "folder": tempfile.mkdtemp(prefix="mlops-local-"),
        "port": wanted.pop("port", 0),
        "options": json.dumps(DeploymentOptions.of(wanted).to_xcom()),
    }
    scorer.main([f"--{key}={value}" for key, value in arguments.items()])


def target_help() -> str:
    """Return what ``mlflow deployments help -t mlops-local`` prints."""
    return (
        "mlops-local serves models behind a router on this machine. Start the serving host with "
        "`airflow-mlops serve --workspace DIR` and use the target `mlops-local:/DIR`, or "
        f"`mlops-local://host:port` with its token in {TOKEN_VARIABLE}. Traffic is set by "
        "update_endpoint(endpoint, config={'traffic': {'v1': 95, 'v2': 5}, 'generation': 3}); "
        "config also takes 'mirror_traffic', 'sticky' and 'shield'. create_deployment takes "
        "config={'timeout': seconds} and what serving/options.py names, such as 'workers'."
    )


class MlopsLocalClient(BaseDeploymentClient):
    """Deployments and traffic of a serving host.

    Args:
        target_uri: ``mlops-local:/path/to/workspace`` or ``mlops-local://host:port``.
    """

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)  # type: ignore[no-untyped-call]  # MLflow has no types here
        self._client = _client(target_uri)

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: dict[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Serve a model without traffic, creating the endpoint if need be.

        Args:
            name: Name of the deployment.
            model_uri: Model in the registry of the host.
            flavor: Not used: models are served as their flavor says.
            config: ``timeout`` in seconds, and options of ``serving/options.py``.
            endpoint: Endpoint to add it to.
        """
        wanted = _required(endpoint)
        options = dict(config or {})
        timeout = float(options.pop("timeout", 180))
        self._client.create_endpoint(wanted)
        ref = self._client.create_deployment(
            wanted, name, model_uri, timeout=timeout, options=options or None
        )
        return {**_deployment(ref, name), "flavor": flavor or "python_function"}

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: dict[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Refuse: a deployment serves one model for life, and a new one gets a new name."""
        raise ParameterError(
            f"Deployment {name!r} cannot be changed. Create another for {model_uri} and move "
            "the traffic with update_endpoint."
        )

    def delete_deployment(
        self, name: str, config: dict[str, Any] | None = None, endpoint: str | None = None
    ) -> None:
        """Remove a deployment that carries no traffic."""
        self._client.delete_deployment(_required(endpoint), name)

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Return the deployments of one endpoint, or of all."""
        known = [self._client.get_state(endpoint)] if endpoint else self._client.list_endpoints()
        return [_deployment(ref, name) for ref in known for name in ref.deployments]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """Return one deployment, its model and its share of the traffic."""
        ref = self._client.get_state(_required(endpoint))
        if name not in ref.deployments:
            known = ", ".join(ref.deployments) or "none"
            raise ParameterError(f"No deployment {name!r} on {endpoint!r} (known: {known}).")
        return _deployment(ref, name)

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> Any:
        """Predict through the router, which chooses the deployment.

        Args:
            deployment_name: Must be left out.
            inputs: A data frame, or a dict of MLflow's scoring protocol.
            endpoint: Endpoint to ask.
        """
        from mlflow.deployments import PredictionsResponse

        if deployment_name is not None:
            raise ParameterError(
                "The deployment is chosen by the endpoint's traffic: leave deployment_name out."
            )
        if hasattr(inputs, "to_json"):
            inputs = {"dataframe_split": _split(inputs)}
        return PredictionsResponse(self._client.predict(_required(endpoint), inputs))

    def create_endpoint(self, name: str, config: dict[str, Any] | None = None) -> dict[str, Any]:
        """Create an endpoint."""
        return _endpoint(self._client.create_endpoint(name))

    def update_endpoint(
        self, endpoint: str, config: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Set ``traffic``, ``mirror_traffic``, ``sticky`` and ``shield``.

        ``generation`` names the one that the change was decided on; by default that of now.
        """
        current = self._client.get_state(endpoint)
        wanted = {"traffic": current.traffic, "generation": current.generation, **(config or {})}
        unknown = set(wanted) - {"traffic", "mirror_traffic", "sticky", "shield", "generation"}
        if unknown:
            constraint = "of traffic, mirror_traffic, sticky, shield and generation"
            raise ParameterError.of("config", "update_endpoint", constraint, sorted(unknown))
        return _endpoint(self._client.set_traffic(endpoint, **wanted))

    def delete_endpoint(self, endpoint: str) -> None:
        """Delete an endpoint and its deployments."""
        self._client.delete_endpoint(endpoint)

    def list_endpoints(self) -> list[dict[str, Any]]:
        """Return all endpoints."""
        return [_endpoint(ref) for ref in self._client.list_endpoints()]

    def get_endpoint(self, endpoint: str) -> dict[str, Any]:
        """Return one endpoint."""
        return _endpoint(self._client.get_state(endpoint))


def _client(target_uri: str) -> ServingClient:
    target = urlsplit(target_uri)
    if target.netloc:
        return ServingClient(f"http://{target.netloc}", os.environ.get(TOKEN_VARIABLE, ""))
    if target.scheme and target.path:
        return ServingClient.from_workspace(target.path)
    constraint = "mlops-local:/path/to/workspace or mlops-local://host:port"
    raise ParameterError.of("target_uri", "mlops-local", constraint, target_uri)


def _required(endpoint: str | None) -> str:
    if not endpoint:
        raise ParameterError.of("endpoint", "mlops-local", "the name of an endpoint", endpoint)
    return endpoint


def _split(frame: Any) -> dict[str, Any]:
    return dict(json.loads(frame.to_json(orient="split", index=False)))


def _deployment(ref: EndpointRef, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "endpoint": ref.endpoint,
        "model_uri": ref.deployments[name],
        "traffic": ref.traffic.get(name, 0),
        "mirror_traffic": ref.mirror_traffic.get(name, 0),
    }


def _endpoint(ref: EndpointRef) -> dict[str, Any]:
    return {"name": ref.endpoint, **ref.to_xcom()}
