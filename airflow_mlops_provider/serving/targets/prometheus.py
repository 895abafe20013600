"""Counters of deployments from Prometheus, in the words that a rollout reads.

A series that is missing, NaN or infinite is an outage of the metrics and never zero, except for a
deployment without traffic: nobody has asked it yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import httpx

from airflow_mlops_provider.exceptions import ParameterError, ServingUnavailableError

QUERIES: dict[str, dict[str, str]] = {
    "Knative": {
        "requests": 'sum(revision_app_request_count{namespace_name="$namespace",'
        'revision_name=~"$workload"})',
        "errors": 'sum(revision_app_request_count{namespace_name="$namespace",'
        'revision_name=~"$workload",response_code_class="5xx"}) or 0 * sum('
        'revision_app_request_count{namespace_name="$namespace",revision_name=~"$workload"})',
        "latency": 'sum by (le) (revision_app_request_latencies_bucket{namespace_name="$namespace",'
        'revision_name=~"$workload"})',
    },
    "Standard": {
        "requests": 'sum(istio_requests_total{reporter="destination",'
        'destination_workload_namespace="$namespace",destination_workload=~"$workload"})',
        "errors": 'sum(istio_requests_total{reporter="destination",'
        'destination_workload_namespace="$namespace",destination_workload=~"$workload",'
        'response_code=~"5.."}) or 0 * sum(istio_requests_total{reporter="destination",'
        'destination_workload_namespace="$namespace",destination_workload=~"$workload"})',
        "latency": "sum by (le) (istio_request_duration_milliseconds_bucket"
        '{reporter="destination",destination_workload_namespace="$namespace",'
        'destination_workload=~"$workload"})',
    },
}
"""PromQL by deployment mode; ``$namespace``, ``$endpoint`` and ``$workload`` are filled in. Each is
cumulative; ``latency`` is a histogram in milliseconds."""
_TIMEOUT_SECONDS = 15.0


class Prometheus:
    """Asks one Prometheus server.

    Args:
        url: Its address.
        queries: PromQL of ``requests``, ``errors`` and ``latency``, as in :data:`QUERIES`.
        token: Bearer token, if it wants one.
    """

    def __init__(self, url: str, queries: Mapping[str, str], token: str = "") -> None:
        expected = set(QUERIES["Standard"])
        if set(queries) != expected:
            constraint = f"PromQL by each of {sorted(expected)}"
            raise ParameterError.of("prometheus_queries", "a KServe target", constraint, queries)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(timeout=_TIMEOUT_SECONDS, headers=headers)
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._queries = dict(queries)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def counters(self, namespace: str, endpoint: str, workload: str, *, asked: bool) -> Any:
        """Return the cumulative counters of a deployment.

        Args:
            namespace: Namespace of the endpoint.
            endpoint: Name of the endpoint.
            workload: Pattern of the deployment's revisions or workloads.
            asked: Whether the deployment has traffic; if not, missing series count as zero.

        Raises:
            ServingUnavailableError: Prometheus does not answer, or a series is missing or NaN.
        """
        names = {"namespace": namespace, "endpoint": endpoint, "workload": workload}
        series = {key: self._series(key, names) for key in self._queries}
        if not asked and not series["requests"]:
            return counters_of(0, 0, {})
        values = {key: self._value(key, series[key]) for key in ("requests", "errors")}
        buckets = {
            float(each["metric"].get("le", "nan")): self._number("latency", each)
            for each in series["latency"]
        }
        if values["requests"] and math.inf not in buckets:
            raise self._outage("latency", "a histogram with the bucket +Inf", sorted(buckets))
        return counters_of(round(values["requests"]), round(values["errors"]), buckets)

    def _series(self, key: str, names: Mapping[str, str]) -> list[dict[str, Any]]:
        query = self._queries[key]
        for name, value in names.items():
            query = query.replace(f"${name}", value)
        try:
            answer = self._client.get(self._url, params={"query": query})
            body = answer.json()
            if not answer.is_success or body["status"] != "success":
                raise self._outage(key, "an answer", body.get("error", answer.status_code))
            return list(body["data"]["result"])
        except (httpx.TransportError, ValueError, KeyError, TypeError) as error:
            raise self._outage(key, "an answer", f"{type(error).__name__}: {error}") from error

    def _value(self, key: str, series: list[dict[str, Any]]) -> float:
        if len(series) != 1:
            raise self._outage(key, "one series", len(series))
        return self._number(key, series[0])

    def _number(self, key: str, series: Mapping[str, Any]) -> float:
        number = float(series["value"][1])
        if not math.isfinite(number) or number < 0:
            raise self._outage(key, "a count", number)
        return number

    def _outage(self, key: str, expected: str, got: object) -> ServingUnavailableError:
        return ServingUnavailableError(
            f"Expected {expected} from {self._url} for {key!r}, got {got!r}. Check prometheus_url "
            "and prometheus_queries of the Connection, and that the pods are scraped."
        )


def counters_of(requests: int, errors: int, buckets: Mapping[float, float]) -> dict[str, Any]:
    """Return counters as our serving host gives them.

    A histogram does not say where in a bucket a latency lies, so that the moments of its logarithm
    are those of a uniform density (of the logarithm) within each bucket. The first bucket is taken
    to begin at half of its end, the last one to end at twice its begin.

    Args:
        requests: Requests so far.
        errors: Answers of class 5xx so far.
        buckets: Cumulative count by upper bound in milliseconds, up to infinity.
    """
    total = squares = before = low = 0.0
    for high in sorted(buckets):
        n, before = max(0.0, buckets[high] - before), buckets[high]
        top = high if math.isfinite(high) else low * 2
        if n and top > 0:
            a, b = math.log(low or top / 2), math.log(top)
            total += n * (a + b) / 2
            squares += n * (a * a + a * b + b * b) / 3
        low = high
    texts = {f"{high:g}" if math.isfinite(high) else "+Inf": n for high, n in buckets.items()}
    return {
        "requests": requests,
        "errors": errors,
        "schema_violations": 0,
        "latency_buckets": {name: round(n) for name, n in texts.items()} or {"+Inf": 0},
        "log_latency_sum": total,
        "log_latency_sq_sum": squares,
    }
