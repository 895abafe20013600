"""KServe as a serving target: an endpoint is one ``InferenceService``.

The rollout's document lies in a ConfigMap that the ``InferenceService`` owns, not in annotations of
it, which KServe copies into the pods: each tick of a rollout would make a new revision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import (
    ModelError,
    ParameterError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.records import EndpointRef
from airflow_mlops_provider.serving.targets.documents import (
    Mode,
    checked_label,
    new_predictor,
    new_service,
)
from airflow_mlops_provider.serving.targets.limits import LimitedTarget

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.targets.cluster import Cluster
    from airflow_mlops_provider.serving.targets.prometheus import Prometheus

_ANNOTATION = "serving.kserve.io/deploymentMode"


class KserveClient(LimitedTarget):
    """Speaks to the API server of a cluster in which KServe runs; closes with its context.

    It cannot mirror, keep entities on a side, shield, keep a lease or pair answers, and refuses
    calls that ask for it. The errors of ``Cluster`` come through.

    Args:
        cluster: The objects of the namespace of the endpoints.
        mode: How deployments are kept in an object.
        locate: Gives the storage URI, which KServe can download, of a model URI.
        metrics: Prometheus, if deployments can be observed.
        template: What every ``spec.predictor`` has beside its model.
        settle_seconds: How long the controller may take to put traffic in force.
        poll_seconds: Time between two looks at the controller's status.
    """

    target_name = "KServe"

    def __init__(
        self,
        cluster: Cluster,
        mode: Mode,
        *,
        locate: Callable[[str], str],
        metrics: Prometheus | None = None,
        template: Mapping[str, Any] | None = None,
        settle_seconds: float = 60,
        poll_seconds: float = 1,
    ) -> None:
        self._cluster, self._mode = cluster, mode
        self._locate, self._metrics = locate, metrics
        self._template = dict(template or {})
        self._settle_seconds, self._poll_seconds = settle_seconds, poll_seconds

    def close(self) -> None:
        """Close the connections to the API server and to Prometheus."""
        self._cluster.close()
        if self._metrics:
            self._metrics.close()

    @property
    def admin_url(self) -> str:
        """Address of the API server."""
        return self._cluster.url

    def capabilities(self) -> frozenset[str]:
        """Return ``traffic``, unless KServe is too old for it, and ``observe`` with Prometheus."""
        words = {"traffic"} if self._mode.name == "Knative" or self._has_canaries() else set()
        return frozenset(words | ({"observe"} if self._metrics else set()))

    def create_endpoint(self, endpoint: str) -> EndpointRef:
        """Return an endpoint; one that does not exist begins with its first deployment."""
        return self._ref(endpoint, self._found(endpoint))

    def delete_endpoint(self, endpoint: str) -> None:
        """Delete an endpoint with its deployments and its rollout; a missing one is no error."""
        self._cluster.delete(endpoint)

    def list_endpoints(self) -> list[EndpointRef]:
        """Return the endpoints of the namespace that this provider made."""
        mine = [each for each in self._cluster.list() if self._is_mine(each)]
        return [self._ref(each["metadata"]["name"], each) for each in mine]

    def get_state(self, endpoint: str) -> EndpointRef:
        """Return the deployments that are ready and the traffic that is in force."""
        return self._ref(endpoint, self._existing(endpoint))

    def create_deployment(
        self,
        endpoint: str,
        name: str,
        model_uri: str,
        *,
        timeout: float = 180,
        options: dict[str, Any] | None = None,
    ) -> EndpointRef:
        """Serve a model without traffic and wait until it is ready; the same again only waits.

        The first deployment of an endpoint has all of its traffic: KServe knows no other way.

        Args:
            endpoint: Endpoint to add it to.
            name: Name of the deployment.
            model_uri: Model in the registry.
            timeout: Seconds until the controller has to report it ready.
            options: Must be the defaults; the Connection's ``predictor`` says how models run.

        Raises:
            ModelError: KServe cannot load the model.
            RegistryConflictError: ``name`` serves another model, or Knative has no room.
            ServingUnavailableError: it is not ready in time; the same call goes on waiting.
        """
        self.refuse_options(options, "the extra `predictor` of the Connection says how models run")
        checked_label(name, "deployment")
        self._place(endpoint, name, model_uri)
        return self._wait(
            endpoint, lambda service: self._is_up(service, name), timeout, f"{name} to be ready"
        )

    def delete_deployment(self, endpoint: str, name: str) -> None:
        """Remove a deployment that carries no traffic; a missing one changes nothing."""

        def without(service: dict[str, Any]) -> dict[str, Any]:
            if name not in self._mode.known(service):
                return service
            if percent := self._mode.traffic(service).get(name):
                raise ParameterError(
                    f"Deployment {name!r} still carries {percent} % of the traffic. Move it away "
                    "before deleting it."
                )
            return self._mode.removed(service, name)

        self._change(endpoint, without)

    def set_traffic(
        self,
        endpoint: str,
        traffic: dict[str, int],
        *,
        generation: int,
        mirror_traffic: dict[str, int] | None = None,
        sticky: bool | None = None,
        shield: bool | None = None,
    ) -> EndpointRef:
        """Set the traffic if it is still at ``generation``; return once it is in force.

        Args:
            endpoint: Endpoint to change.
            traffic: Percent by deployment, summing to 100.
            generation: Generation the change was decided on.
            mirror_traffic: Must be empty.
            sticky: Must not be True.
            shield: Must not be True.

        Raises:
            RegistryConflictError: somebody else changed the object meanwhile.
            ServingUnavailableError: the controller did not act in time; the same may be repeated
                at the generation of then.
        """
        self.refuse(mirror=mirror_traffic, sticky=sticky, shield=shield)

        def split(service: dict[str, Any]) -> dict[str, Any]:
            found = service["metadata"]["generation"]
            if found != generation:
                raise RegistryConflictError(
                    f"Endpoint {endpoint!r} is at generation {found}, not at {generation}: "
                    "somebody changed it. Look again and decide anew."
                )
            return self._mode.with_traffic(service, traffic)

        self._change(endpoint, split)
        wanted = {name: percent for name, percent in traffic.items() if percent}
        return self._wait(
            endpoint,
            lambda service: self._mode.traffic(service) == wanted,
            self._settle_seconds,
            f"the traffic {wanted}",
        )

    def observe(self, endpoint: str) -> dict[str, dict[str, Any]]:
        """Return cumulative counters by deployment, as Prometheus has them.

        Raises:
            ParameterError: the Connection names no Prometheus.
            ServingUnavailableError: a deployment with traffic has no finite figures.
        """
        if self._metrics is None:
            raise ParameterError("Expected prometheus_url in the Connection's extra, got none.")
        service = self._existing(endpoint)
        traffic = self._mode.traffic(service)
        return {
            name: self._metrics.counters(
                self._cluster.namespace, endpoint, workload, asked=name in traffic
            )
            for name, workload in self._mode.workloads(service).items()
        }

    def get_rollout(self, endpoint: str) -> dict[str, Any] | None:
        """Return the document of the running or last rollout."""
        return self._cluster.read_document(endpoint)

    def put_rollout(
        self,
        endpoint: str,
        document: dict[str, Any],
        *,
        lease_seconds: float | None,
        rollback_traffic: dict[str, int] | None,
    ) -> None:
        """Store a rollout's document.

        Raises:
            ParameterError: a lease is asked for; nobody here would act when it runs out.
        """
        self.refuse(lease=lease_seconds is not None)
        self._cluster.put_document(endpoint, document)

    def clear_rollout(self, endpoint: str) -> None:
        """Forget the rollout."""
        self._cluster.delete_document(endpoint)

    def _ref(self, endpoint: str, service: dict[str, Any] | None) -> EndpointRef:
        if service is None:
            return EndpointRef(
                endpoint=endpoint,
                url="",
                deployments={},
                traffic={},
                mirror_traffic={},
                generation=0,
            )
        ready = {
            name: model
            for name, model in self._mode.known(service).items()
            if self._mode.is_ready(service, name)
        }
        return EndpointRef(
            endpoint=endpoint,
            url=str(service.get("status", {}).get("url", "")),
            deployments=ready,
            traffic=self._mode.traffic(service),
            mirror_traffic={},
            generation=service["metadata"]["generation"],
        )

    def _place(self, endpoint: str, name: str, model_uri: str) -> None:
        """Have the object hold a deployment, whoever else writes to it meanwhile."""
        service = self._found(endpoint)
        if service is None:
            first = self._mode.prepared(self._predictor(name, model_uri))
            body = new_service(endpoint, self._cluster.namespace, self._mode.name, first)
            if self._cluster.create(body):
                return
        self._change(endpoint, lambda found: self._with(found, endpoint, name, model_uri))

    def _with(
        self, service: dict[str, Any], endpoint: str, name: str, model_uri: str
    ) -> dict[str, Any]:
        known = self._mode.known(service)
        if name in known and known[name] != model_uri:
            raise RegistryConflictError(
                f"Deployment {name!r} of {endpoint!r} already serves {known[name]}, not "
                f"{model_uri}. Choose another name, or delete the deployment first."
            )
        if name in known:
            return service
        return self._mode.added(service, self._predictor(name, model_uri))

    def _predictor(self, name: str, model_uri: str) -> dict[str, Any]:
        return new_predictor(name, model_uri, self._locate(model_uri), self._template)

    def _is_up(self, service: dict[str, Any], name: str) -> bool:
        if reason := self._mode.failure(service, name):
            raise ModelError(
                f"KServe cannot serve {self._mode.known(service).get(name)}: {reason}. Correct the "
                "model or the extra `predictor` of the Connection, and register a new version."
            )
        return self._mode.is_ready(service, name)

    def _wait(
        self, endpoint: str, done: Callable[[dict[str, Any]], bool], seconds: float, what: str
    ) -> EndpointRef:
        deadline = time.monotonic() + seconds
        while not done(service := self._existing(endpoint)):
            if time.monotonic() >= deadline:
                told = [
                    f"{each['type']} {each.get('reason', '')}: {each.get('message', '')}"
                    for each in service.get("status", {}).get("conditions", [])
                    if each.get("status") != "True"
                ]
                raise ServingUnavailableError(
                    f"Expected {what} on {endpoint!r} within {seconds:.0f} s; KServe reports "
                    f"{'; '.join(told) or 'nothing'}. Look at its pods; a retry goes on waiting."
                )
            time.sleep(self._poll_seconds)
        return self._ref(endpoint, service)

    def _change(self, endpoint: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        def checked(service: dict[str, Any]) -> dict[str, Any]:
            return change(self._mine(endpoint, service))

        self._cluster.change(endpoint, checked)

    def _found(self, endpoint: str) -> dict[str, Any] | None:
        service = self._cluster.read(checked_label(endpoint, "endpoint"))
        return None if service is None else self._mine(endpoint, service)

    def _existing(self, endpoint: str) -> dict[str, Any]:
        return self._mine(endpoint, self._cluster.existing(endpoint))

    def _is_mine(self, service: Mapping[str, Any]) -> bool:
        annotations = service["metadata"].get("annotations") or {}
        mode = service.get("status", {}).get("deploymentMode") or annotations.get(_ANNOTATION)
        return mode == self._mode.name and all(self._mode.known(service).values())

    def _mine(self, endpoint: str, service: dict[str, Any]) -> dict[str, Any]:
        if self._is_mine(service):
            return service
        raise ParameterError(
            f"Expected {endpoint!r} to be made by this provider in the mode {self._mode.name}, got "
            f"an InferenceService of the mode {service.get('status', {}).get('deploymentMode')} "
            f"with the models {self._mode.known(service)}. Correct `mode` in the Connection's "
            "extra, or use another endpoint."
        )

    def _has_canaries(self) -> bool:
        """Tell whether KServe knows ``spec.canary``; assume so where its schema says nothing."""
        properties = (self._cluster.schema() or {}).get("properties")
        return properties is None or "canary" in properties
