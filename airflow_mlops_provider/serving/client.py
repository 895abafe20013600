"""The client of the serving host's admin API: the traffic protocol that rollouts speak."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NoReturn, Self

import fsspec
import httpx

from airflow_mlops_provider.exceptions import (
    ModelError,
    ParameterError,
    PermanentError,
    RecordError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.records import EndpointRef
from airflow_mlops_provider.serving.state import valid_name
from airflow_mlops_provider.workspace import join, read_json

_TIMEOUT_SECONDS = 60.0
_FEEDBACK_AT_ONCE = 1_000
_PERMANENT: dict[str, type[PermanentError]] = {
    error.__name__: error
    for error in (ParameterError, RecordError, ModelError, RegistryConflictError)
}


class ServingClient:
    """Speaks to one serving host; a context manager that closes its connections.

    Every method raises ``ServingUnavailableError`` when the host does not answer, and
    ``ParameterError``, ``ModelError`` or ``RegistryConflictError`` when it refuses.

    Args:
        admin_url: Address of the admin API.
        token: Its bearer token.
    """

    def __init__(self, admin_url: str, token: str) -> None:
        self.admin_url = admin_url.rstrip("/")
        self._client = httpx.Client(timeout=_TIMEOUT_SECONDS, verify=_ssl_context())
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    @classmethod
    def from_workspace(cls, workspace: str) -> Self:
        """Return a client of the host that serves ``workspace``, a path or fsspec URI.

        Raises:
            ServingUnavailableError: no host serves it.
        """
        try:
            admin_url = read_json(join(workspace, "serving", "host.json"))["admin_url"]
            with fsspec.open(join(workspace, "serving", "token"), "rt") as file:
                return cls(admin_url, file.read().strip())
        except FileNotFoundError as error:
            raise ServingUnavailableError(
                f"No serving host runs for {workspace}. Start it with "
                f"`airflow-mlops serve --workspace {workspace}`."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the host."""
        self._client.close()

    def capabilities(self) -> frozenset[str]:
        """Return what the host can do, such as traffic, mirror, sticky, shield, observe, lease."""
        return frozenset(self._call("GET", "/")["capabilities"])

    def create_endpoint(self, endpoint: str) -> EndpointRef:
        """Create an endpoint; an existing one stays as it is."""
        return self._ref("PUT", _path(endpoint))

    def delete_endpoint(self, endpoint: str) -> None:
        """Delete an endpoint and its deployments; its prediction log stays."""
        self._call("DELETE", _path(endpoint))

    def list_endpoints(self) -> list[EndpointRef]:
        """Return all endpoints."""
        return [EndpointRef.from_xcom(item) for item in self._call("GET", "/endpoints")]

    def get_state(self, endpoint: str) -> EndpointRef:
        """Return an endpoint; ``ParameterError`` names the known ones if there is none."""
        return self._ref("GET", _path(endpoint))

    def create_deployment(
        self,
        endpoint: str,
        name: str,
        model_uri: str,
        *,
        timeout: float = 180,
        options: dict[str, Any] | None = None,
    ) -> EndpointRef:
        """Serve a model without traffic; the same again changes nothing.

        Args:
            endpoint: Endpoint to add it to.
            name: Name of the deployment.
            model_uri: Model in the registry of the host.
            timeout: Seconds until the model has to answer, making its environment included.
            options: How it is served; see ``serving/options.py``. None leaves a deployment that
                exists as it is, and is the defaults for a new one.

        Raises:
            ModelError: the model cannot be loaded; nothing is left behind.
            RegistryConflictError: ``name`` already serves another model, or with other options.
        """
        body = {"name": name, "model_uri": model_uri, "timeout": timeout, "options": options}
        waiting = timeout + _TIMEOUT_SECONDS
        return self._ref("POST", _path(endpoint, "deployments"), body, timeout=waiting)

    def delete_deployment(self, endpoint: str, name: str) -> None:
        """Remove a deployment that carries no traffic; a missing one changes nothing."""
        self._call("DELETE", _path(endpoint, "deployments", valid_name("deployment", name)))

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
        """Set the traffic if it is still at ``generation``; return once the router serves it.

        Args:
            endpoint: Endpoint to change.
            traffic: Percent by deployment, summing to 100.
            generation: Generation the change was decided on.
            mirror_traffic: Percent of requests copied to a deployment; None leaves it.
            sticky: Whether an entity stays on its side; None leaves it.
            shield: Whether what one deployment answers with a 5xx is asked of another that
                carries traffic; None leaves it until one deployment has all the traffic.

        Raises:
            RegistryConflictError: somebody else changed the traffic meanwhile.
            ServingUnavailableError: the router did not take the change over; the traffic is
                as it was, and the same call may be repeated.
        """
        body = {
            "traffic": traffic,
            "generation": generation,
            "mirror_traffic": mirror_traffic,
            "sticky": sticky,
            "shield": shield,
        }
        return self._ref("PUT", _path(endpoint, "traffic"), body)

    def observe(self, endpoint: str) -> dict[str, dict[str, Any]]:
        """Return cumulative counters by deployment; they never decrease.

        ``requests`` and ``errors`` also count attempts that died with their scorer; the
        latencies and their buckets (milliseconds) only those that were answered. What a deployment
        was asked only because another failed is logged, but not counted: it is no fair sample.
        """
        return dict(self._call("GET", _path(endpoint, "counters")))

    def pairs(self, endpoint: str, *, tolerance: float = 0.0) -> dict[str, dict[str, Any]]:
        """Return, by shadow deployment, how its answers compare with those that were given.

        Cumulative since the deployment was created: ``pairs`` that both sides answered, of them
        ``disagreements`` (scores further apart than ``tolerance``, other answers unequal), sums
        of the differences of scores and log latencies, ``champion_failed``, ``shadow_failed``.
        """
        return dict(self._call("GET", _path(endpoint, f"pairs?tolerance={tolerance!r}")))

    def get_rollout(self, endpoint: str) -> dict[str, Any] | None:
        """Return the document of the running or last rollout."""
        document = self._call("GET", _path(endpoint, "rollout"))
        return None if document is None else dict(document)

    def put_rollout(
        self,
        endpoint: str,
        document: dict[str, Any],
        *,
        lease_seconds: float | None,
        rollback_traffic: dict[str, int] | None,
    ) -> None:
        """Store a rollout's document and renew its lease.

        When the lease runs out and ``document["state"]`` is not a resting one, the host sets
        ``rollback_traffic`` itself (None leaves the traffic), takes the mirrors away, and writes
        ROLLED_BACK and the reason into the document. A lease of None never runs out.
        """
        body = {
            "document": document,
            "lease_seconds": lease_seconds,
            "rollback_traffic": rollback_traffic,
        }
        self._call("PUT", _path(endpoint, "rollout"), body)

    def clear_rollout(self, endpoint: str) -> None:
        """Forget the rollout and its lease."""
        self._call("DELETE", _path(endpoint, "rollout"))

    def send_feedback(
        self, endpoint: str, feedback: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """Tell what turned out to be true; return the ids once it is on the host's disk.

        Each outcome has a ``label`` (number, bool or text), and ``request_id`` (with ``row``, by
        default 0) or ``entity_id`` and ``event_ts``. With a ``feedback_id`` of its own it may be
        sent again and counts once; of several outcomes of a prediction the last received holds.
        Many go in several requests of 1,000, each kept whole or not at all.

        Args:
            endpoint: Endpoint that predicted.
            feedback: One outcome, or several.
        """
        outcomes = [feedback] if isinstance(feedback, Mapping) else list(feedback)
        path = _path(endpoint, "feedback")
        return [
            feedback_id
            for sent in range(0, len(outcomes), _FEEDBACK_AT_ONCE)
            for feedback_id in self._call(
                "POST", path, {"feedback": outcomes[sent : sent + _FEEDBACK_AT_ONCE]}
            )["feedback_ids"]
        ]

    def rotate_logs(self, endpoint: str) -> None:
        """Close the open segments of the endpoint's prediction log and feedback."""
        self._call("POST", _path(endpoint, "logs", "rotate"))

    def status(self, endpoint: str) -> dict[str, dict[str, Any]]:
        """Return by deployment how many scorers are ``wanted``, ``workers`` and ``restarts``.

        A worker has ``worker`` (its number), ``pid``, ``port``, ``memory_mb``, ``healthy`` and
        ``seconds``; restarts are counted by reason (ended, hung, memory) since the host started.
        """
        return dict(self._call("GET", _path(endpoint, "status")))

    def predict(
        self, endpoint: str, payload: dict[str, Any], *, entity_id: str | None = None
    ) -> dict[str, Any]:
        """Send a request of MLflow's scoring protocol through the router.

        Raises:
            ParameterError: the endpoint refuses the payload.
            ModelError: the model failed on it.
        """
        url = f"{self.get_state(endpoint).url}/invocations"
        headers = {} if entity_id is None else {"x-entity-id": entity_id}
        try:
            answer = self._client.post(url, json=payload, headers=headers)
        except httpx.TransportError as error:
            self._unavailable(url, error)
        if answer.is_success:
            return dict(answer.json())
        message = f"{endpoint} answered {answer.status_code}: {answer.text[:1000]}"
        if answer.status_code == 500:
            raise ModelError(message)
        raise (ParameterError if answer.is_client_error else ServingUnavailableError)(message)

    def _ref(self, method: str, path: str, body: Any = None, **options: Any) -> EndpointRef:
        return EndpointRef.from_xcom(self._call(method, path, body, **options))

    def _call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        try:
            answer = self._client.request(
                method, f"{self.admin_url}{path}", json=body, headers=self._headers, **options
            )
        except httpx.TransportError as error:
            self._unavailable(self.admin_url, error)
        if answer.is_success:
            return answer.json()
        try:
            refusal = answer.json()
            failure = _PERMANENT.get(refusal["error"], ServingUnavailableError)
            message = refusal["message"]
        except (ValueError, KeyError, TypeError):
            failure = ParameterError if answer.is_client_error else ServingUnavailableError
            message = f"{answer.status_code}: {answer.text[:500]}"
        raise failure(f"The serving host at {self.admin_url} refused: {message}")

    def _unavailable(self, url: str, error: Exception) -> NoReturn:
        raise ServingUnavailableError(
            f"The serving host does not answer at {url} ({type(error).__name__}). Start it with "
            "`airflow-mlops serve`, or correct the host of the Connection."
        ) from error


@cache
def _ssl_context() -> ssl.SSLContext:
    """Return what all clients share, as it takes far longer to make than a client."""
    return httpx.create_ssl_context()


def _path(endpoint: str, *rest: str) -> str:
    """Return the path of a call; a name that is none could lead to another endpoint's."""
    return "/".join(["/endpoints", valid_name("endpoint", endpoint), *rest])
