"""Whether an endpoint serves, and how well: what its deployments counted over a window of time.

Sensor and trigger both ask :func:`health_problem`, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.deploy import endpoint_problem
from airflow_mlops_provider.steps.rollout.state import routed

if TYPE_CHECKING:
    from airflow_mlops_provider.records import EndpointRef

_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLimits:
    """What an endpoint has to keep over a window; build them with :meth:`of`."""

    max_error_rate: float | None = None
    max_p95_ms: float | None = None
    window_seconds: float = 300.0
    min_requests: int = 100

    @classmethod
    def of(
        cls, max_error_rate: Any, max_p95_ms: Any, window_seconds: Any, min_requests: Any
    ) -> HealthLimits | None:
        """Check numbers, which may be text; None if neither rate nor latency is limited.

        Raises:
            ParameterError: one is no number, or out of range.
        """
        if max_error_rate in (None, "") and max_p95_ms in (None, ""):
            return None
        return cls(
            max_error_rate=_number("max_error_rate", max_error_rate, 0, 1),
            max_p95_ms=_number("max_p95_ms", max_p95_ms, 0),
            window_seconds=_number("window_seconds", window_seconds, 0) or 0.0,
            min_requests=int(_number("min_requests", min_requests, 1) or 1),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values that build the same limits by keyword."""
        return asdict(self)


def health_problem(
    ref: EndpointRef,
    counters: Mapping[str, Mapping[str, Any]],
    limits: HealthLimits | None,
    *,
    deployment: str | None,
    since: dict[str, Any] | None,
    now: float,
) -> tuple[str | None, dict[str, Any] | None]:
    """Say what keeps an endpoint from being healthy, or None if it is.

    A window is at least as long as asked for, and goes on until it has enough requests. One that is
    over its limits ends there, and another begins.

    Args:
        ref: The endpoint as its target sees it.
        counters: The cumulative counters of its deployments.
        limits: What it has to keep; None asks only whether it serves.
        deployment: A deployment that must have traffic, and is looked at alone; by default all
            that have traffic.
        since: Where the window began, as the last call gave it; None begins one.
        now: Seconds since the epoch.

    Returns:
        The problem, and where the window began, as JSON values.
    """
    problem = endpoint_problem(ref, deployment)
    if problem or limits is None:
        return problem, since
    counted = {name: _kept(each) for name, each in counters.items()}
    begun = {"at": now, "counters": counted}
    if since is None or _restarted(since["counters"], counted):
        return "the window of its counters begins", begun
    if now - since["at"] < limits.window_seconds:
        return f"a window of {limits.window_seconds:g} s is not over", since
    names = [deployment] if deployment else routed(ref.traffic)
    window = _difference(since["counters"], counted, names)
    if window["requests"] < limits.min_requests:
        return f"it has not answered {limits.min_requests} requests yet", since
    problem = _exceeded(window, limits)
    return problem, begun if problem else since


def _exceeded(window: dict[str, Any], limits: HealthLimits) -> str | None:
    n = window["requests"]
    rate, p95 = window["errors"] / n, _percentile(window["latency_buckets"])
    found = []
    if limits.max_error_rate is not None and rate > limits.max_error_rate:
        found.append(f"{rate:.2%} of its {n} requests failed, over {limits.max_error_rate:.2%}")
    if limits.max_p95_ms is not None and p95 > limits.max_p95_ms:
        found.append(f"95 % of its {n} requests took {p95:g} ms, over {limits.max_p95_ms:g} ms")
    return " and ".join(found) or None


def _percentile(buckets: Mapping[str, int]) -> float:
    """Return the 95th percentile, interpolated within its bucket as Prometheus does."""
    wanted = _SHARE * buckets.get("+Inf", 0)
    bounds = sorted((float(bound), n) for bound, n in buckets.items())
    for (low, below), (high, n) in pairwise([(0.0, 0), *bounds]):
        if n >= wanted and n > below:
            part = (wanted - below) / (n - below)
            return high if high == float("inf") else low + part * (high - low)
    return 0.0


def _kept(counters: Mapping[str, Any]) -> dict[str, Any]:
    buckets = dict(counters.get("latency_buckets", {}))
    return {
        "requests": counters["requests"],
        "errors": counters["errors"],
        "latency_buckets": buckets,
    }


def _restarted(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether a deployment counts from zero again: it was deleted and made anew."""
    both = before.keys() & now.keys()
    return any(now[name]["requests"] < before[name]["requests"] for name in both)


def _difference(
    before: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str]
) -> dict[str, Any]:
    """Return what some deployments counted together; one that is new began at zero."""
    total: dict[str, Any] = {"requests": 0, "errors": 0, "latency_buckets": {}}
    buckets = total["latency_buckets"]
    for name in (each for each in names if each in now):
        then = before.get(name, {"requests": 0, "errors": 0, "latency_buckets": {}})
        for what in ("requests", "errors"):
            total[what] += now[name][what] - then[what]
        for bound, n in now[name]["latency_buckets"].items():
            buckets[bound] = buckets.get(bound, 0) + n - then["latency_buckets"].get(bound, 0)
    return total


def _number(name: str, value: Any, low: float, high: float = float("inf")) -> float | None:
    if value in (None, ""):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if low <= number <= high and number != float("inf"):
        return number
    constraint = f"a number from {low:g}" + ("" if high == float("inf") else f" to {high:g}")
    raise ParameterError.of(name, "EndpointHealthSensor", constraint, value)
