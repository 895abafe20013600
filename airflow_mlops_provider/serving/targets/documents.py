"""What is common to the ``InferenceService`` objects of both of KServe's deployment modes.

What a deployment is called and which model it serves stands in the annotations of its predictor.
Nothing that changes later may stand in annotations: KServe copies those of the service and of the
predictor into the pods, so that a change would start all pods anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Protocol

from airflow_mlops_provider.exceptions import ParameterError

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
_PREFIX = "airflow-provider-mlops/"
DEPLOYMENT, MODEL_URI = f"{_PREFIX}deployment", f"{_PREFIX}model-uri"
_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,28}[a-z0-9])?")
_BAD_MODEL = {"BlockedByFailedLoad", "InvalidSpec"}


class Mode(Protocol):
    """How a deployment mode keeps deployments and traffic in an ``InferenceService``.

    Every method is pure: it reads an object as the API server gave it, or returns a changed copy.
    """

    name: str

    def known(self, service: Mapping[str, Any]) -> dict[str, str]:
        """Return the model URI by deployment, of all that the object holds."""

    def is_ready(self, service: Mapping[str, Any], name: str) -> bool:
        """Tell whether the controller reports that a deployment answers."""

    def failure(self, service: Mapping[str, Any], name: str) -> str | None:
        """Say why a deployment will never answer, if the controller knows."""

    def traffic(self, service: Mapping[str, Any]) -> dict[str, int]:
        """Return the percent by deployment that the controller has put in force."""

    def workloads(self, service: Mapping[str, Any]) -> dict[str, str]:
        """Return a pattern of what each deployment is called in metrics."""

    def prepared(self, predictor: dict[str, Any]) -> dict[str, Any]:
        """Return a predictor as the mode wants it, or refuse what the mode cannot do."""

    def added(self, service: Mapping[str, Any], predictor: dict[str, Any]) -> dict[str, Any]:
        """Add a deployment without traffic."""

    def with_traffic(
        self, service: Mapping[str, Any], traffic: Mapping[str, int]
    ) -> dict[str, Any]:
        """Want other traffic."""

    def removed(self, service: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Remove a deployment that has no traffic."""


def checked_label(value: str, what: str) -> str:
    """Return ``value`` if Kubernetes can name objects after it.

    Raises:
        ParameterError: it is no DNS label of at most 30 characters.
    """
    if _LABEL.fullmatch(value):
        return value
    constraint = "1 to 30 lower-case letters, digits and '-', a letter first"
    raise ParameterError.of(what, "a KServe target", constraint, value)


def new_predictor(
    name: str, model_uri: str, storage_uri: str, template: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the predictor of a deployment: ``template``, with an MLflow model in it."""
    predictor = deepcopy(dict(template))
    predictor.setdefault("minReplicas", 1)
    model = {"modelFormat": {"name": "mlflow"}, "protocolVersion": "v2"}
    predictor["model"] = {**model, **predictor.get("model", {}), "storageUri": storage_uri}
    told = {DEPLOYMENT: name, MODEL_URI: model_uri}
    predictor["annotations"] = {**predictor.get("annotations", {}), **told}
    return predictor


def new_service(
    endpoint: str, namespace: str, mode: str, predictor: dict[str, Any]
) -> dict[str, Any]:
    """Return the object of an endpoint whose first deployment gets all traffic."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "InferenceService",
        "metadata": {
            "name": endpoint,
            "namespace": namespace,
            "annotations": {"serving.kserve.io/deploymentMode": mode},
        },
        "spec": {"predictor": predictor},
    }


def told(predictor: Mapping[str, Any], key: str) -> str:
    """Return one of our annotations of a predictor, or an empty text."""
    return str((predictor.get("annotations") or {}).get(key, ""))


def component(service: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of the predictor."""
    components = service.get("status", {}).get("components", {})
    return dict(components.get("predictor", {}))


def condition(service: Mapping[str, Any], kind: str) -> str:
    """Return ``True``, ``False`` or ``Unknown``, as the controller reported it last."""
    for each in service.get("status", {}).get("conditions", []):
        if each.get("type") == kind:
            return str(each.get("status"))
    return "Unknown"


def load_failure(service: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the revision and the reason of a model that cannot be loaded."""
    status = service.get("status", {}).get("modelStatus", {})
    if status.get("transitionStatus") not in _BAD_MODEL:
        return None
    info = status.get("lastFailureInfo", {})
    reason = f"{info.get('reason', status['transitionStatus'])}: {info.get('message', '')}"
    return str(info.get("modelRevisionName", "")), reason


def require_known(traffic: Mapping[str, int], known: Mapping[str, object]) -> None:
    """Check a split of traffic.

    Raises:
        ParameterError: a deployment is unknown, a percent is out of range, or they do not sum
            to 100.
    """
    if unknown := sorted(set(traffic) - set(known)):
        constraint = f"percents of {sorted(known)}"
        raise ParameterError.of("traffic", "a KServe target", constraint, unknown)
    if sum(traffic.values()) != 100 or not all(0 <= part <= 100 for part in traffic.values()):
        raise ParameterError.of("traffic", "a KServe target", "percents that sum to 100", traffic)
