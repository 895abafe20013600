"""A serving target in memory, with scripted traffic, outages and crashes."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

from airflow_mlops_provider.exceptions import (
    ModelError,
    ParameterError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.records import EndpointRef, ModelVersionRef
from airflow_mlops_provider.serving.pairs import ZERO as ZERO_PAIRS

ZERO = {
    "requests": 0,
    "errors": 0,
    "client_errors": 0,
    "schema_violations": 0,
    "shadow_requests": 0,
    "shadow_errors": 0,
    "latency_ms_sum": 0.0,
    "log_latency_sum": 0.0,
    "log_latency_sq_sum": 0.0,
}
ALL_ABILITIES = frozenset({"traffic", "observe", "lease", "mirror", "pairs", "shield"})


class CrashError(BaseException):
    """The driver's process was killed at this call."""


@dataclass
class FakeTarget:
    deployments: dict[str, str] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    mirror: dict[str, int] = field(default_factory=dict)
    shield: bool = False
    sticky: bool = False
    generation: int = 0
    rollout: dict | None = None
    lease_seconds: float | None = None
    rollback_traffic: dict[str, int] | None = None
    counters: dict[str, dict] = field(default_factory=dict)
    paired: dict[str, dict] = field(default_factory=dict)
    metrics_down: bool = False
    down: bool = False
    frozen: bool = False
    """Traffic cannot be set."""
    broken_models: set[str] = field(default_factory=set)
    abilities: frozenset[str] = ALL_ABILITIES
    history: list[dict[str, int]] = field(default_factory=list)
    crash_in: int | None = None
    """Die at the n-th call from now, before (even) or after (odd) it took effect."""

    options: dict[str, dict | None] = field(default_factory=dict)
    closed: int = 0
    """How often a caller closed its connections."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.closed += 1

    def _call(self):
        if self.down:
            raise ServingUnavailableError("The serving host does not answer.")

    def _maybe_crash(self):
        if self.crash_in is not None:
            if self.crash_in == 0:
                self.crash_in = None
                raise CrashError
            self.crash_in -= 1

    def capabilities(self):
        return self.abilities

    def get_state(self, endpoint):
        self._call()
        return EndpointRef(
            endpoint=endpoint,
            url=f"http://127.0.0.1:1/endpoints/{endpoint}",
            deployments=dict(self.deployments),
            traffic=dict(self.traffic),
            mirror_traffic=dict(self.mirror),
            generation=self.generation,
            sticky=self.sticky,
            shield=self.shield,
        )

    def create_endpoint(self, endpoint):
        return self.get_state(endpoint)

    def create_deployment(self, endpoint, name, model_uri, *, timeout=180, options=None):
        self._call()
        self._maybe_crash()
        if model_uri in self.broken_models:
            raise ModelError(f"{model_uri} cannot be loaded")
        self.deployments[name] = model_uri
        self.options[name] = options
        self.counters.setdefault(name, {**ZERO, "latency_buckets": {"+Inf": 0}})
        self._maybe_crash()
        return self.get_state(endpoint)

    def delete_deployment(self, endpoint, name):
        self._call()
        if self.traffic.get(name):
            raise ParameterError(f"{name} has traffic")
        self.deployments.pop(name, None)
        self.counters.pop(name, None)

    def set_traffic(
        self, endpoint, traffic, *, generation, mirror_traffic=None, sticky=None, shield=None
    ):
        self._call()
        self._maybe_crash()
        if self.frozen:
            raise ServingUnavailableError("The router does not take the change.")
        if generation != self.generation:
            raise RegistryConflictError("stale generation")
        assert sum(traffic.values()) == 100
        assert set(traffic) <= set(self.deployments)
        if mirror_traffic is not None:
            self.mirror = dict(mirror_traffic)
        split = len([percent for percent in traffic.values() if percent]) > 1
        self.shield = self.shield and split if shield is None else shield
        self.sticky = self.sticky if sticky is None else sticky
        if dict(traffic) != self.traffic:
            self.history.append(dict(traffic))
        self.traffic = dict(traffic)
        self.generation += 1
        self._maybe_crash()
        return self.get_state(endpoint)

    def observe(self, endpoint):
        self._call()
        if self.metrics_down:
            raise ServingUnavailableError("no counters")
        return json.loads(json.dumps(self.counters))

    def pairs(self, endpoint, *, tolerance):
        self._call()
        if self.metrics_down:
            raise ServingUnavailableError("no pairs")
        return json.loads(json.dumps(self.paired))

    def get_rollout(self, endpoint):
        self._call()
        return None if self.rollout is None else json.loads(json.dumps(self.rollout))

    def put_rollout(self, endpoint, document, *, lease_seconds, rollback_traffic):
        self._call()
        self._maybe_crash()
        self.rollout = json.loads(json.dumps(document, allow_nan=False))
        self.lease_seconds, self.rollback_traffic = lease_seconds, rollback_traffic
        self._maybe_crash()

    def clear_rollout(self, endpoint):
        self.rollout = None

    def expire_lease(self):
        """Do what the host does when nobody drives a rollout."""
        if self.rollback_traffic is not None:
            self.traffic = dict(self.rollback_traffic)
        self.mirror = {}
        self.generation += 1
        self.rollout = {**self.rollout, "state": "ROLLED_BACK", "reason": "lease expired: test"}

    def restart(self, name):
        """Begin the counters of a deployment at zero."""
        self.counters[name] = {**ZERO, "latency_buckets": {"+Inf": 0}}

    def serve(self, requests, error_rates=None, latency_ms=None):
        """Answer ``requests``, shared by the traffic, with these error rates and latencies."""
        for name, percent in self.traffic.items():
            n = requests * percent // 100
            errors = round(n * (error_rates or {}).get(name, 0))
            self.count(name, n, errors, (latency_ms or {}).get(name, 10.0))

    def mirror_requests(self, name, n, *, disagreements=0, failed=0, shift=0.0, slower=0.0):
        """Count ``n`` requests that were mirrored to ``name``; ``slower`` is of log latency."""
        paired = self.paired.setdefault(name, dict(ZERO_PAIRS))
        answered = n - failed
        paired["pairs"] += answered
        paired["scored"] += answered
        paired["disagreements"] += disagreements
        paired["difference_sum"] += shift * answered
        paired["difference_sq_sum"] += (shift**2 + 0.01) * answered
        paired["log_latency_sum"] += slower * answered
        paired["log_latency_sq_sum"] += (slower**2 + 0.25) * answered
        paired["shadow_failed"] += failed
        self.counters[name]["shadow_requests"] += n
        self.counters[name]["shadow_errors"] += failed

    def count(self, name, requests, errors=0, latency_ms=10.0, schema_violations=0):
        """Add to a deployment's counters; latencies vary by half around their median."""
        mean, half = math.log(latency_ms), requests // 2
        spread = [(mean - 0.5, half), (mean + 0.5, half), (mean, requests - 2 * half)]
        counters = self.counters[name]
        counters["requests"] += requests
        counters["errors"] += errors
        counters["schema_violations"] += schema_violations
        counters["log_latency_sum"] += sum(value * n for value, n in spread)
        counters["log_latency_sq_sum"] += sum(value**2 * n for value, n in spread)
        counters["latency_buckets"]["+Inf"] += requests


def with_champion(**changes):
    """Return a target on which v1 serves everything."""
    target = FakeTarget(**changes)
    target.create_deployment("e", "v1", "models:/m/1")
    target.traffic = {"v1": 100}
    return target


def version(number="2"):
    return ModelVersionRef(
        name="m",
        version=number,
        model_uri=f"models:/m/{number}",
        model_id="m-1",
        run_id="r",
        aliases=[],
    )
