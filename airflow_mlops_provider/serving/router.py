"""Desired state to Envoy configuration, as pure functions.

Listener and admin never change; weights come by file RDS and clusters by file CDS, so a model
comes, goes and gains traffic without a restart. What looks odd here was learnt under load:

* ``idle_timeout`` below uvicorn's 5 s keep-alive, or reused connections are reset;
* ``no_traffic_interval``, or a cluster without traffic is checked once a minute only;
* a deployment's cluster holds the others that carry traffic at priority 1, and retries leave
  the priority they failed on, so a killed scorer costs no user a request; where there is no
  other, they leave at least the worker they failed on;
* panic threshold 0, or Envoy sends requests to hosts it knows to be dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.state import EndpointState

Addresses = Mapping[tuple[str, str], Sequence[int]]
"""Ports of the scorers that run, by endpoint and deployment."""

RDS_FILE, CDS_FILE = "rds.json", "cds.json"
ROUTE_CONFIG = "endpoints"
SHADOW_SUFFIX = "-shadow"

_TYPES = "type.googleapis.com/envoy"
_REQUEST_TIMEOUT = "30s"
_TRY_TIMEOUT = "10s"
_IDLE_TIMEOUT = "3s"
_HTTP_OPTIONS = f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions"
_PREVIOUS_PRIORITIES = (
    f"{_TYPES}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
)
_PROTOCOLS = (("path", "/invocations"), ("path_separated_prefix", "/v2"))
"""What a scorer answers: MLflow's scoring protocol, and the Open Inference Protocol."""
_PREVIOUS_HOSTS = f"{_TYPES}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"


def cluster_name(endpoint: str, deployment: str, *, shadow: bool = False) -> str:
    """Return the cluster of a deployment; neither name can contain a ``/``."""
    return f"{endpoint}/{deployment}{'/shadow' if shadow else ''}"


def bootstrap(host: str, port: int, admin_socket: str, folder: str) -> dict[str, Any]:
    """Return the configuration that Envoy starts with.

    Args:
        host: Address the router listens on.
        port: Port it listens on.
        admin_socket: Path of the Unix socket of Envoy's own admin interface.
        folder: Where the route and cluster files lie.
    """
    return {
        "node": {"id": "router", "cluster": "airflow-mlops"},
        "admin": {"address": {"pipe": {"path": admin_socket, "mode": 0o600}}},
        "dynamic_resources": {"cds_config": _from_file(folder, CDS_FILE)},
        "static_resources": {"listeners": [_listener(host, port, folder)]},
    }


def routes(endpoints: Mapping[str, EndpointState], version: str) -> dict[str, Any]:
    """Return the RDS file: a route for each protocol of each endpoint, its weights and mirrors."""
    found = [
        _route(endpoint, state, match, path)
        for endpoint, state in endpoints.items()
        for match, path in _PROTOCOLS
    ]
    unknown = {
        "match": {"prefix": "/"},
        "direct_response": _answer(404, "RESOURCE_DOES_NOT_EXIST", "No such endpoint."),
    }
    virtual_host = {
        # Envoy reports a version only if something changed, so the version is part of it.
        "name": f"version-{version}",
        "domains": ["*"],
        "include_request_attempt_count": True,
        "routes": [*found, unknown],
    }
    resource = {
        "@type": f"{_TYPES}.config.route.v3.RouteConfiguration",
        "name": ROUTE_CONFIG,
        "virtual_hosts": [virtual_host],
    }
    return {"version_info": version, "resources": [resource]}


def clusters(
    endpoints: Mapping[str, EndpointState], addresses: Addresses, version: str
) -> dict[str, Any]:
    """Return the CDS file: a cluster per deployment, and one more if it is mirrored to."""
    resources = []
    for endpoint, state in endpoints.items():
        for name in state.deployments:
            own = _ports(endpoint, [name], addresses)
            others = _ports(endpoint, _fallbacks(state, name), addresses)
            resources.append(_cluster(cluster_name(endpoint, name), [own, others]))
            if state.mirror_traffic.get(name):
                resources.append(_cluster(cluster_name(endpoint, name, shadow=True), [own]))
    return {"version_info": version, "resources": resources}


def _fallbacks(state: EndpointState, name: str) -> list[str]:
    return [other for other, share in state.traffic.items() if share and other != name]


def _ports(endpoint: str, names: Iterable[str], addresses: Addresses) -> list[int]:
    return [port for name in names for port in addresses.get((endpoint, name), ())]


def _from_file(folder: str, name: str) -> dict[str, Any]:
    source = {"path": f"{folder}/{name}", "watched_directory": {"path": folder}}
    return {"path_config_source": source, "resource_api_version": "V3"}


def _listener(host: str, port: int, folder: str) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "router",
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "rds": {"route_config_name": ROUTE_CONFIG, "config_source": _from_file(folder, RDS_FILE)},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    network_filter = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }
    return {
        "name": "router",
        "address": _address(host, port),
        # With it a second router could share the port, and half of the requests, unnoticed.
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [network_filter]}],
    }


def _route(endpoint: str, state: EndpointState, kind: str, path: str) -> dict[str, Any]:
    match = {kind: f"/endpoints/{endpoint}{path}"}
    shares = {name: share for name, share in state.traffic.items() if share}
    if not shares:
        message = f"Endpoint {endpoint} has no traffic yet: deploy a model and set its traffic."
        answer = _answer(503, "TEMPORARILY_UNAVAILABLE", message)
        return {"match": match, "direct_response": answer}
    weighted: dict[str, Any] = {
        "clusters": [
            {"name": cluster_name(endpoint, name), "weight": share * 100}
            for name, share in shares.items()
        ]
    }
    action: dict[str, Any] = {
        "weighted_clusters": weighted,
        "prefix_rewrite": path,
        "timeout": _REQUEST_TIMEOUT,
        "retry_policy": _retry_policy(state),
        "request_mirror_policies": _mirrors(endpoint, state),
    }
    if state.sticky:
        weighted["use_hash_policy"] = True
        action["hash_policy"] = [{"header": {"header_name": "x-entity-id"}}]
    return {"match": match, "route": action}


def _mirrors(endpoint: str, state: EndpointState) -> list[dict[str, Any]]:
    return [
        {
            "cluster": cluster_name(endpoint, name, shadow=True),
            "runtime_fraction": {"default_value": {"numerator": share, "denominator": "HUNDRED"}},
        }
        for name, share in state.mirror_traffic.items()
        if share
    ]


def _retry_policy(state: EndpointState) -> dict[str, Any]:
    return {
        "retry_on": "reset,5xx" if state.shield else "reset,gateway-error",
        "num_retries": 2,
        "per_try_timeout": _TRY_TIMEOUT,
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {"@type": _PREVIOUS_PRIORITIES, "update_frequency": 1},
        },
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": _PREVIOUS_HOSTS},
            }
        ],
        "host_selection_retry_max_attempts": "5",
    }


def _cluster(name: str, priorities: list[list[int]]) -> dict[str, Any]:
    return {
        "@type": f"{_TYPES}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"priority": priority, "lb_endpoints": [_lb_endpoint(port) for port in ports]}
                for priority, ports in enumerate(priorities)
                if ports
            ],
        },
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/ping"},
            }
        ],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _HTTP_OPTIONS,
                "common_http_protocol_options": {"idle_timeout": _IDLE_TIMEOUT},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _lb_endpoint(port: int) -> dict[str, Any]:
    return {"endpoint": {"address": _address("127.0.0.1", port)}}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _answer(status: int, code: str, message: str) -> dict[str, Any]:
    body = f'{{"error_code": "{code}", "message": "{message}"}}'
    return {"status": status, "body": {"inline_string": body}}
