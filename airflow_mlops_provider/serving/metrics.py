"""What the host tells Prometheus, in its text format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from airflow_mlops_provider.exceptions import ParameterError

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.host import ServingHost

CONTENT_TYPE = CONTENT_TYPE_LATEST
_LABELS = ("endpoint", "deployment")
_PREFIX = "mlops_serving_"
_COUNTERS = {
    "requests": "Requests of users, with those that no scorer answered.",
    "errors": "Requests of users that failed for the model or its scorer.",
    "client_errors": "Requests that were refused for what the client sent.",
    "schema_violations": "Answers that did not fit the model's signature.",
    "shadow_requests": "Mirrored requests.",
    "shadow_errors": "Mirrored requests that failed.",
    "unlogged": "Predictions that were given although they could not be logged.",
}
Key = tuple[str, str]


async def exposition(host: ServingHost) -> bytes:
    """Return the metrics of all endpoints and deployments."""
    counters: dict[Key, dict[str, Any]] = {}
    for endpoint in list(host.endpoints):
        with suppress(ParameterError):  # it has just been deleted
            for name, found in (await host.observe(endpoint)).items():
                counters[endpoint, name] = found
    registry = CollectorRegistry()
    registry.register(_Snapshot(host, counters))
    registry.register(_Reports(host.folder.parent / "reports" / "monitoring"))
    return generate_latest(registry)


class _Snapshot(Collector):
    """Gives the metrics of one moment."""

    def __init__(self, host: ServingHost, counters: Mapping[Key, Mapping[str, Any]]) -> None:
        self._host, self._counters = host, counters

    def collect(self) -> Iterator[Metric]:
        """Give a family at a time."""
        yield from self._counted()
        yield self._latencies()
        yield from self._weights()
        yield from self._processes()

    def _counted(self) -> Iterator[Metric]:
        for name, about in _COUNTERS.items():
            family = CounterMetricFamily(_PREFIX + name, about, labels=_LABELS)
            for key, found in self._counters.items():
                family.add_metric(key, found.get(name, 0))
            yield family

    def _latencies(self) -> Metric:
        name = _PREFIX + "latency_seconds"
        about = "Time that scorers took to answer users, without the router."
        family = HistogramMetricFamily(name, about, labels=_LABELS)
        for key, found in self._counters.items():
            buckets = [(_seconds(bound), n) for bound, n in found["latency_buckets"].items()]
            family.add_metric(key, buckets, found["latency_ms_sum"] / 1000)
        return family

    def _weights(self) -> Iterator[Metric]:
        traffic = _gauge("traffic_percent", "Share of the users' requests.")
        mirrored = _gauge("mirror_percent", "Share of the requests that are copied.")
        for endpoint, state in self._host.endpoints.items():
            for name in state.deployments:
                traffic.add_metric((endpoint, name), state.traffic.get(name, 0))
                mirrored.add_metric((endpoint, name), state.mirror_traffic.get(name, 0))
        yield from (traffic, mirrored)

    def _processes(self) -> Iterator[Metric]:
        restarts = CounterMetricFamily(
            _PREFIX + "restarts",
            "Scorers that were replaced since the host started, by reason.",
            labels=(*_LABELS, "reason"),
        )
        workers = _gauge("workers", "Scorers that run.")
        healthy = _gauge("healthy_workers", "Scorers that answer.")
        memory = _gauge("memory_bytes", "Memory that a deployment's scorers hold in RAM.")
        for endpoint in self._host.endpoints:
            for name, status in self._host.status(endpoint).items():
                key, found = (endpoint, name), status["workers"]
                for reason, n in status["restarts"].items():
                    restarts.add_metric((*key, reason), n)
                workers.add_metric(key, len(found))
                healthy.add_metric(key, sum(each["healthy"] for each in found))
                memory.add_metric(key, sum(each["memory_mb"] for each in found) * 2**20)
        yield from (restarts, workers, healthy, memory)


class _Reports(Collector):
    """Gives what monitoring left in the workspace, each family once for all endpoints."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Give a family at a time."""
        families: dict[str, Metric] = {}
        for file in sorted(self._folder.glob("*/metrics.prom")):
            with suppress(FileNotFoundError, ValueError):  # replaced or broken meanwhile
                for found in text_string_to_metric_families(file.read_text()):
                    families.setdefault(found.name, found).samples.extend(
                        () if families[found.name] is found else found.samples
                    )
        yield from families.values()


def _gauge(name: str, about: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, about, labels=_LABELS)


def _seconds(bound: str) -> str:
    return bound if bound == "+Inf" else repr(float(bound) / 1000)
