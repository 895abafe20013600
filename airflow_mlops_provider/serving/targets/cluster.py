"""The objects that KServe endpoints consist of, read from and written to an API server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from airflow_mlops_provider.exceptions import (
    ParameterError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.serving.targets.documents import (
    GROUP,
    PLURAL,
    VERSION,
    checked_label,
)

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, CustomObjectsApi

_LIMIT = {"_request_timeout": 30}
_ATTEMPTS = 5
"""How often a write is tried again after the controller wrote its status in between."""


class Cluster:
    """The ``InferenceService`` objects of a namespace, and a document kept beside each.

    Every method raises ``ServingUnavailableError`` when the API server does not answer (or answers
    429 or 5xx), and ``ParameterError`` when it refuses (400, 401, 403, 422).

    Args:
        objects: Client of custom objects.
        core: Client of config maps.
        namespace: Namespace of the objects.
    """

    def __init__(self, objects: CustomObjectsApi, core: CoreV1Api, namespace: str) -> None:
        self._objects, self._core, self.namespace = objects, core, namespace

    @property
    def url(self) -> str:
        """Address of the API server."""
        return str(self._objects.api_client.configuration.host)

    def close(self) -> None:
        """Close the connections."""
        self._objects.api_client.close()

    def read(self, endpoint: str) -> dict[str, Any] | None:
        """Return the object of an endpoint, or None."""
        with _refusals(f"reading {endpoint}"), _absent():
            path = self._path(endpoint)
            return dict(self._objects.get_namespaced_custom_object(*path, **_LIMIT))
        return None

    def existing(self, endpoint: str) -> dict[str, Any]:
        """Return the object of an endpoint.

        Raises:
            ParameterError: there is none.
        """
        service = self.read(endpoint)
        if service is None:
            raise ParameterError(
                f"No endpoint {endpoint!r} in namespace {self.namespace!r}. Deploy a model to it "
                "with DeployModelOperator."
            )
        return service

    def list(self) -> list[dict[str, Any]]:
        """Return all objects of the namespace."""
        with _refusals("listing the InferenceServices"):
            found = self._objects.list_namespaced_custom_object(
                GROUP, VERSION, self.namespace, PLURAL, **_LIMIT
            )
        return list(found["items"])

    def create(self, service: dict[str, Any]) -> bool:
        """Create an object; False if there is one of its name already."""
        with _refusals(f"creating {service['metadata']['name']}"):
            try:
                self._objects.create_namespaced_custom_object(
                    GROUP, VERSION, self.namespace, PLURAL, service, **_LIMIT
                )
            except ApiException as error:
                if error.status != 409:
                    raise
                return False
        return True

    def change(
        self, endpoint: str, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        """Write what ``change`` makes of an object's ``spec``, compared and set by its version.

        When others (the controller with its status, say) wrote since it was read, it is read and
        changed again.

        Returns:
            The object as it is kept.
        """
        for _ in range(_ATTEMPTS):
            service = self.existing(endpoint)
            wanted = change(service)
            if wanted["spec"] == service["spec"]:
                return service
            if (kept := self._replaced(endpoint, wanted)) is not None:
                return kept
        raise ServingUnavailableError(
            f"Others wrote to {endpoint!r} {_ATTEMPTS} times in between. Try again."
        )

    def _replaced(self, endpoint: str, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """Return what is kept, or None if somebody wrote since it was read."""
        path = self._path(endpoint)
        with _refusals(f"changing {endpoint}"):
            try:
                kept = self._objects.replace_namespaced_custom_object(*path, wanted, **_LIMIT)
            except ApiException as error:
                if error.status != 409:
                    raise
                return None
        if wanted["spec"].get("canary") and not kept["spec"].get("canary"):
            raise ParameterError(
                "KServe dropped spec.canary: in the mode Standard it shares traffic since 0.20. "
                "Update KServe, or use the mode Knative."
            )
        return dict(kept)

    def delete(self, endpoint: str) -> None:
        """Delete an object and its document, unless they are gone."""
        with _refusals(f"deleting {endpoint}"), _absent():
            self._objects.delete_namespaced_custom_object(*self._path(endpoint), **_LIMIT)
        self.delete_document(endpoint)

    def schema(self) -> dict[str, Any] | None:
        """Return the schema of ``spec``, or None where it may not be read."""
        name = f"{PLURAL}.{GROUP}"
        try:
            with _refusals(f"reading the schema {name}"):
                found = self._objects.get_cluster_custom_object(
                    "apiextensions.k8s.io", "v1", "customresourcedefinitions", name, **_LIMIT
                )
        except ParameterError:
            return None
        versions = {each["name"]: each for each in found["spec"]["versions"]}
        schema = versions.get(VERSION, {}).get("schema", {}).get("openAPIV3Schema", {})
        return dict(schema.get("properties", {}).get("spec", {}))

    def read_document(self, endpoint: str) -> dict[str, Any] | None:
        """Return the document that was kept last."""
        with _refusals(f"reading the rollout of {endpoint}"), _absent():
            found = self._core.read_namespaced_config_map(_map(endpoint), self.namespace, **_LIMIT)
            return dict(json.loads(found.data["rollout"]))
        return None

    def put_document(self, endpoint: str, document: dict[str, Any]) -> None:
        """Keep a document in a ConfigMap that goes with the endpoint."""
        owner = self.existing(endpoint)
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": endpoint,
            "uid": owner["metadata"]["uid"],
        }
        body = {
            "metadata": {"name": _map(endpoint), "ownerReferences": [reference]},
            "data": {"rollout": json.dumps(document, allow_nan=False)},
        }
        with _refusals(f"keeping the rollout of {endpoint}"):
            try:
                self._core.replace_namespaced_config_map(
                    _map(endpoint), self.namespace, body, **_LIMIT
                )
            except ApiException as error:
                if error.status != 404:
                    raise
                self._core.create_namespaced_config_map(self.namespace, body, **_LIMIT)

    def delete_document(self, endpoint: str) -> None:
        """Forget the document, if there is one."""
        with _refusals(f"forgetting the rollout of {endpoint}"), _absent():
            self._core.delete_namespaced_config_map(_map(endpoint), self.namespace, **_LIMIT)

    def _path(self, endpoint: str) -> tuple[str, str, str, str, str]:
        return GROUP, VERSION, self.namespace, PLURAL, checked_label(endpoint, "endpoint")


def _map(endpoint: str) -> str:
    return f"{endpoint}-mlops-rollout"


@contextmanager
def _refusals(doing: str) -> Iterator[None]:
    """Turn what the API server and its connection raise into our errors."""
    try:
        yield
    except ApiException as error:
        message = f"Kubernetes answered {error.status} on {doing}: {_said(error)}"
        if error.status == 409:
            raise RegistryConflictError(f"{message}. Look again and decide anew.") from error
        if error.status in (401, 403):
            raise ParameterError(
                f"{message}. Correct the Connection's credentials, or grant them get, list, "
                f"create, update and delete on {PLURAL}.{GROUP} and configmaps."
            ) from error
        if 400 <= (error.status or 500) < 500 and error.status != 429:
            raise ParameterError(f"{message}. Correct the Connection's extra.") from error
        raise ServingUnavailableError(f"{message}. Try again later.") from error
    except HTTPError as error:
        raise ServingUnavailableError(
            f"Kubernetes does not answer on {doing}: {type(error).__name__}: {error}. Correct the "
            "Connection, or try again later."
        ) from error


@contextmanager
def _absent() -> Iterator[None]:
    """Go on behind the block when the object is not there."""
    try:
        yield
    except ApiException as error:
        if error.status != 404:
            raise


def _said(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])[:500]
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
