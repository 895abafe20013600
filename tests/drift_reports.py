"""Drift reports as the engine gives them, for tests of what surrounds it."""

from __future__ import annotations

from typing import Any

from airflow_mlops_provider.records import DriftReport, FeatureDrift


def feature_drift(feature: str, psi: float | None = 0.02, **changes: Any) -> FeatureDrift:
    """A numeric feature: drifted from a PSI of 0.1 on, with too little data if there is none."""
    known: dict[str, Any] = {"psi": psi, "threshold": 0.1, "p_value": 0.5, "ks": 0.05}
    known |= {"wasserstein": 0.1, "js": 0.04}
    if psi is None:
        known, status, level = dict.fromkeys(known), "insufficient_data", None
    elif psi >= 0.1:
        status, level = "drifted", "fail" if psi >= 0.2 else "warn"
    else:
        status, level = "stable", None
    values = {"kind": "numeric", "status": status, "level": level, "n": 1_000, **known}
    rates = {"null_rate_delta": 0.0, "unseen_rate": None}
    return FeatureDrift(feature=feature, **{**values, **rates, **changes})


def drift_report(verdict: str = "drifted", *features: FeatureDrift, **changes: Any) -> DriftReport:
    """A report of these features."""
    values: dict[str, Any] = {
        "dataset_uri": "/w/a.parquet",
        "profile_uri": "/w/p.json",
        "verdict": verdict,
        "share_drifted": 0.5,
        "n_reference": 1_000,
        "n_current": 1_000,
        "n_features": len(features),
        "features": list(features),
    }
    return DriftReport(**{**values, **changes})
