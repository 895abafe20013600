"""When a figure asks for attention: thresholds with their defaults, and how one is crossed.

A rate crosses its threshold only if even the lower end of its 95 % interval (Wilson 1927) lies
above; a figure of quality only if its whole interval lies on the wrong side. So few rows raise
nothing, and below ``min_rows`` a finding is ``unknown``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scipy.stats import binomtest

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import Finding

if TYPE_CHECKING:
    from airflow_mlops_provider.records.monitoring import Signal

THRESHOLDS: Mapping[str, float | None] = {
    "missing_rate": 0.05,  # of an input, above its share in the reference
    "unseen_rate": 0.05,  # of an input, in categories that the reference does not have
    "out_of_range_rate": 0.05,  # of an input, beyond the range of the reference
    "mismatch_rate": 0.01,  # of an input, of another type than in the reference
    "refused_rate": 0.05,  # of requests, refused for what the client sent
    "drifted_share": 0.3,  # of features
    "score_psi": 0.1,  # of the scores against the reference
    "attribution_ndcg": 0.9,  # at least
    "performance_drop": 0.02,  # below the baseline; of an error its relative rise
    "estimated_drop": 0.02,  # likewise, of the estimate
    "parity_ratio": 0.8,  # of selection rates, at least: the four-fifths rule
    "odds_difference": 0.2,  # of recall or false positive rate between groups
    "error_rate": 0.05,  # of predictions that failed
    "latency_p50_ms": None,
    "latency_p95_ms": None,
    "latency_p99_ms": None,
    "volume": None,  # predictions in the window, at least
}
"""Name to its default; None looks at nothing."""
_CONFIDENCE = 0.95


def checked_thresholds(
    given: Mapping[str, float | None] | None, **known: float
) -> dict[str, float | None]:
    """Return all thresholds: the defaults, what is ``known``, and above these what is given.

    Raises:
        ParameterError: one is unknown or no finite number.
    """
    chosen = {**THRESHOLDS, **known}
    for name, value in (given or {}).items():
        if name not in THRESHOLDS:
            constraint = f"a mapping of some of {sorted(THRESHOLDS)}"
            raise ParameterError.of("thresholds", "monitor_model", constraint, dict(given or {}))
        chosen[name] = None if value is None else _number(name, value)
    return chosen


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever a template gave
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        constraint = "a finite number, or None to look at nothing"
        raise ParameterError.of(f"thresholds[{name!r}]", "monitor_model", constraint, value)
    return number


def proven_above(hits: int, n: int, threshold: float) -> bool:
    """Tell whether a rate lies above ``threshold`` with all of its 95 % interval."""
    return low_high(hits, n)[0] > threshold


def low_high(hits: int, n: int) -> tuple[float, float]:
    """Return the ends of a rate's 95 % interval; 0 and 1 without rows."""
    if not n:
        return 0.0, 1.0
    interval = binomtest(hits, n).proportion_ci(_CONFIDENCE, "wilson")
    return float(interval.low), float(interval.high)


def finding(
    signal: Signal,
    reason: str,
    *,
    crossed: bool | None,
    value: float | None = None,
    threshold: float | None = None,
    n: int = 0,
    warning: bool = False,
) -> Finding:
    """Return a finding as of this window alone; ``crossed`` of None means that nothing is known."""
    status = "unknown" if crossed is None else "raised" if crossed else "ok"
    if warning and not crossed:
        status = "warning"
    return Finding(
        signal=signal,
        status=status,  # type: ignore[arg-type]  # one of the four
        reason=reason,
        value=value,
        threshold=threshold,
        n=n,
        crossed=bool(crossed),
        streak=1 if crossed else 0,
    )
