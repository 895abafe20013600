"""Volume, errors and latency of live predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_mlops_provider.steps.monitor.settings import finding, proven_above

if TYPE_CHECKING:
    from airflow_mlops_provider.records import Finding
    from airflow_mlops_provider.steps.monitor.log import PredictionLog

SERVER_ERROR, CLIENT_ERROR = 500, 400
_QUANTILES = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}


@dataclass(frozen=True)
class Traffic:
    """What the service did in a window."""

    n: int
    n_failed: int
    n_refused: int
    n_answered: int
    first: datetime | None
    last: datetime | None
    n_timed: int
    """Predictions whose latency is known."""
    latency: Mapping[str, float | None]
    """Milliseconds by name of the percentile."""
    n_slow: Mapping[str, int]
    """Predictions above the threshold of a percentile, by its name."""

    @property
    def error_rate(self) -> float:
        """Share of predictions that failed; 0 without any."""
        return self.n_failed / self.n if self.n else 0.0


def traffic_of(log: PredictionLog, thresholds: Mapping[str, float | None]) -> Traffic:
    """Count live predictions, each attempt for itself; percentiles are exact."""
    limits = {name: limit for name in _QUANTILES if (limit := thresholds[name]) is not None}
    quantiles = ", ".join(map(str, _QUANTILES.values()))
    n, failed, refused, timed, latencies, first, last, *slow = log.one(
        [
            "count(*)",
            f"count(*) FILTER (status >= {SERVER_ERROR})",
            f"count(*) FILTER (status >= {CLIENT_ERROR} AND status < {SERVER_ERROR})",
            "count(latency_ms)",
            f"quantile_cont(latency_ms, [{quantiles}])",
            "epoch_us(min(ts))",
            "epoch_us(max(ts))",
            *(f"count(*) FILTER (latency_ms > {limit!r})" for limit in limits.values()),
        ],
        view="live",
    )
    return Traffic(
        n=n,
        n_failed=failed,
        n_refused=refused,
        n_answered=log.one(["count(*)"])[0],
        first=_moment(first),
        last=_moment(last),
        n_timed=timed,
        latency=dict(zip(_QUANTILES, latencies or [None] * len(_QUANTILES), strict=True)),
        n_slow=dict(zip(limits, slow, strict=True)),
    )


def judge_service(
    traffic: Traffic, thresholds: Mapping[str, float | None], min_rows: int
) -> Finding:
    """Judge errors, latency and volume; the first that crossed is the one that is told."""
    least = thresholds["volume"]
    if least is not None and traffic.n < least:
        reason = f"{traffic.n} live predictions, fewer than the {least:g} expected."
        return finding(
            "service", reason, crossed=True, value=traffic.n, threshold=least, n=traffic.n
        )
    if not traffic.n:
        return finding("service", "No live predictions in this window.", crossed=None)
    p95 = traffic.latency["latency_p95_ms"]
    took = f"95 % took at most {p95:.1f} ms" if p95 is not None else "their latency is unknown"
    reason = (
        f"{traffic.n_failed} of {traffic.n} live predictions failed ({traffic.error_rate:.2%}); "
        f"{took}."
    )
    limit = thresholds["error_rate"]
    enough = traffic.n >= min_rows
    if enough and limit is not None and proven_above(traffic.n_failed, traffic.n, limit):
        told = f"{reason} More than {limit:.1%} is too many."
        return finding(
            "service",
            told,
            crossed=True,
            value=traffic.error_rate,
            threshold=limit,
            n=traffic.n,
        )
    for name, n_slow in traffic.n_slow.items() if enough else ():
        # a percentile lies above a limit if more than its share of rows does
        if proven_above(n_slow, traffic.n_timed, 1 - _QUANTILES[name]):
            told = f"{reason} {name} is above {thresholds[name]:g}."
            value = traffic.latency[name]
            return finding(
                "service", told, crossed=True, value=value, threshold=thresholds[name], n=traffic.n
            )
    return finding(
        "service",
        reason,
        crossed=False if enough else None,
        value=traffic.error_rate,
        threshold=limit,
        n=traffic.n,
    )


def _moment(microseconds: int | None) -> datetime | None:
    if microseconds is None:
        return None
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
