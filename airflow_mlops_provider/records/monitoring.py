"""What live traffic says of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from airflow_mlops_provider.records.base import Metric, Record
from airflow_mlops_provider.records.data import DriftReport, FeatureDrift
from airflow_mlops_provider.records.evaluation import Fairness

Signal = Literal[
    "quality",
    "drift",
    "prediction_drift",
    "attribution_drift",
    "performance",
    "estimated_performance",
    "fairness",
    "service",
    "kpi",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Record):
    """What one look at a window came to."""

    signal: Signal
    status: Literal["ok", "warning", "raised", "unknown"]
    """``warning``: worth a look, or over the threshold for too few windows yet; ``unknown``: too
    little to tell."""
    reason: str
    value: float | None = None
    threshold: float | None = None
    n: int = 0
    """Rows behind it."""
    crossed: bool = False
    """Whether the threshold was crossed in this window."""
    streak: int = 0
    """How many windows in a row crossed it, up to and including this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureQuality(Record):
    """What is wrong with the values of one input, as shares of all rows."""

    feature: str
    n: int
    missing_rate: float
    reference_missing_rate: float | None
    unseen_rate: float | None
    """In categories that the reference does not have; None for numbers."""
    out_of_range_rate: float | None
    """Beyond the reference's least and greatest; None for categories."""
    mismatch_rate: float
    """Of another type than in the reference; they count as missing, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionDrift(Record):
    """How differently a model weighs its inputs."""

    ndcg: float
    """1 if the inputs rank as in the reference."""
    n: int
    """Live rows that were looked at."""
    reference: dict[str, float]
    """Input to its influence on the score there; at most 50, the strongest first."""
    current: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReport(Record):
    """The live predictions where ``column`` equals ``value``."""

    column: str
    value: str
    n: int
    error_rate: float
    latency_p95_ms: float | None
    score_mean: float | None
    n_labelled: int = 0
    performance: dict[str, Metric] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringReport(Record):
    """What live traffic says of a model in one window."""

    endpoint: str
    n_predictions: int
    n_labelled: int
    error_rate: float
    latency_p95_ms: float | None
    drift: DriftReport | None
    performance: dict[str, Metric]
    signals: list[Signal]
    """Which signals crossed their threshold for as many windows in a row as were asked for."""
    reasons: list[str]
    """One a finding."""
    model_uri: str | None = None
    """The model it is about; None for all of the endpoint."""
    window_start: str | None = None
    window_end: str | None = None
    reference: Literal["training", "previous"] = "training"
    findings: list[Finding] = field(default_factory=list)
    report_uri: str | None = None
    task: Literal["classification", "regression"] = "classification"
    n_answered: int = 0
    """Predictions with an answer, each once however often it was tried."""
    n_refused: int = 0
    """Requests that were refused for what the client sent."""
    n_future: int = 0
    """Predictions that claim to be of a later time than the report; nothing else counts them."""
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    score_mean: float | None = None
    baseline: float | None = None
    """What the first figure of ``performance`` is compared with."""
    label_coverage: float | None = None
    """Share of the answered predictions whose label came."""
    label_delay_median_s: float | None = None
    """Seconds from a prediction to its label."""
    label_delay_p95_s: float | None = None
    n_early_labels: int = 0
    """Labels that claim to have been known before the prediction; their delays do not count."""
    quality: list[FeatureQuality] = field(default_factory=list)
    """At most 100, the worst first."""
    missing_features: list[str] = field(default_factory=list)
    """Features of the reference that the log does not have, at most 20."""
    new_inputs: list[str] = field(default_factory=list)
    """Inputs of the log that the reference does not have, at most 20."""
    prediction_drift: FeatureDrift | None = None
    attribution: AttributionDrift | None = None
    estimated_performance: dict[str, Metric] = field(default_factory=dict)
    """What the figures are without waiting for labels, if there is no concept drift."""
    fairness: list[Fairness] = field(default_factory=list)
    kpis: dict[str, float] = field(default_factory=dict)
    segments: list[SegmentReport] = field(default_factory=list)
    """At most 100, the largest first within a column."""
    window_profile_uri: str | None = None
    """Profile of this window's inputs, which the next one is compared with; only if ``reference``
    is ``previous``, as is the next."""
    window_score_profile_uri: str | None = None
