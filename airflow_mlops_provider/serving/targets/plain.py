"""Any target of ``mlflow.deployments``, for plain deploys: an endpoint serves one model version."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mlflow.deployments import get_deploy_client
from mlflow.exceptions import MlflowException

from airflow_mlops_provider.exceptions import ParameterError, ServingUnavailableError
from airflow_mlops_provider.records import EndpointRef
from airflow_mlops_provider.serving.targets.limits import LimitedTarget

_VERSION = re.compile(r"models:/[^/]+/(\d+)")
_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_OUTAGES = {"TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "REQUEST_LIMIT_EXCEEDED"}


class PlainClient(LimitedTarget):
    """Speaks to the plugin of a target URI; it has none of the traffic words.

    The endpoint's name is the plugin's deployment name, so that deploying another version updates
    that deployment, and all requests go to it at once.

    Args:
        target_uri: Such as ``sagemaker:/eu-west-1``; the plugin must be installed.
        flavor: Model flavour to deploy, if the plugin wants one.
        config: What the plugin is given with each deploy.
    """

    def __init__(
        self, target_uri: str, *, flavor: str | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        self.target_name = target_uri.partition(":")[0]  # type: ignore[misc]  # of the instance
        self.admin_url = target_uri
        self._flavor, self._config = flavor, dict(config or {})
        with self._refusals("finding the plugin"):
            self._plugin = get_deploy_client(target_uri)  # type: ignore[no-untyped-call]

    def capabilities(self) -> frozenset[str]:
        """Return none of the traffic words."""
        return frozenset()

    def create_endpoint(self, endpoint: str) -> EndpointRef:
        """Return an endpoint; one that does not exist begins with its deployment."""
        return self.get_state(endpoint)

    def get_state(self, endpoint: str) -> EndpointRef:
        """Return which model an endpoint serves, as far as the plugin says."""
        return self._ref(endpoint, self._found(endpoint))

    def create_deployment(
        self,
        endpoint: str,
        name: str,
        model_uri: str,
        *,
        timeout: float = 180,
        options: dict[str, Any] | None = None,
    ) -> EndpointRef:
        """Serve a model with all requests; the same again changes nothing, if the plugin tells.

        Args:
            endpoint: Name of the plugin's deployment.
            name: Only for the record: a plain target has one deployment.
            model_uri: Model to serve.
            timeout: Not used: the plugin has its own.
            options: Must be the defaults.
        """
        self.refuse_options(options, "the extra `config` of the Connection says how models run")
        found = self._found(endpoint)
        if found is None or found.get("model_uri") != model_uri:
            call = self._plugin.create_deployment if found is None else self._updated
            with self._refusals(f"deploying {model_uri}"):
                call(endpoint, model_uri, self._flavor, config=self._config)
        return self._ref(endpoint, {"model_uri": model_uri, "name": name})

    def delete_deployment(self, endpoint: str, name: str) -> None:
        """Delete the endpoint with its deployment; a missing one is no error."""
        if self._found(endpoint) is not None:
            with self._refusals(f"deleting {endpoint}"):
                self._plugin.delete_deployment(endpoint)

    def set_traffic(self, endpoint: str, traffic: dict[str, int], **options: Any) -> EndpointRef:
        """Return the state if the traffic is as it always is; refuse any split."""
        self.refuse(traffic=max(traffic.values(), default=0) != 100)
        return self.get_state(endpoint)

    def observe(self, endpoint: str) -> dict[str, dict[str, Any]]:
        """Refuse: plugins count nothing."""
        return self._lacks("observe")

    def get_rollout(self, endpoint: str) -> dict[str, Any] | None:
        """Return None: there are no rollouts here."""

    def put_rollout(self, endpoint: str, document: dict[str, Any], **options: Any) -> None:
        """Refuse."""
        self._lacks("rollouts")

    def clear_rollout(self, endpoint: str) -> None:
        """Do nothing: there are no rollouts here."""

    def _updated(self, name: str, model_uri: str, flavor: str | None, config: Any) -> None:
        self._plugin.update_deployment(name, model_uri=model_uri, flavor=flavor, config=config)

    def _found(self, endpoint: str) -> dict[str, Any] | None:
        with self._refusals("listing the deployments"):
            every = self._plugin.list_deployments()
        return next((dict(each) for each in every if each.get("name") == endpoint), None)

    def _ref(self, endpoint: str, found: Mapping[str, Any] | None) -> EndpointRef:
        model = "" if found is None else str(found.get("model_uri", ""))
        match = _VERSION.fullmatch(model)
        deployments = {} if found is None else {f"v{match[1]}" if match else "current": model}
        return EndpointRef(
            endpoint=endpoint,
            url="" if found is None else str(found.get("url", "")),
            deployments=deployments,
            traffic=dict.fromkeys(deployments, 100),
            mirror_traffic={},
            generation=0,
        )

    @contextmanager
    def _refusals(self, doing: str) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            message = f"The target {self.admin_url} refused {doing}: {error}"
            if error.error_code in _OUTAGES:
                raise ServingUnavailableError(f"{message}. Try again later.") from error
            raise ParameterError(f"{message}. Correct the Connection, or the model.") from error
