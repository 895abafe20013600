"""What is known of data: a dataset, its validation, its drift."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from airflow_mlops_provider.records.base import Metric, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRef(Record):
    """An immutable Parquet file in the workspace, named by its content."""

    name: str
    uri: str
    file_hash: str
    """sha256 of the file's bytes."""
    logical_hash: str
    """sha256 over the rows, whatever file they lie in."""
    schema_hash: str
    n_rows: int
    columns: dict[str, str]
    """Column name to Arrow type."""
    source: str
    window_start: str | None = None
    """ISO 8601, inclusive."""
    window_end: str | None = None
    """ISO 8601, exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRef(Record):
    """A dataset cut into a part to learn from and a part to be judged on."""

    strategy: Literal["time", "group", "stratified"]
    train: DatasetRef
    test: DatasetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectationResult(Record):
    """One expectation that did not hold."""

    expectation: str
    column: str | None
    severity: Literal["critical", "warning", "info"]
    errored: bool
    """The expectation could not be evaluated at all (a missing column, say)."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport(Record):
    """What a Great Expectations suite says of a dataset.

    ``stop``: the schema is skewed and a person has to look. ``retrain``: values moved, and a
    model should be trained on them. ``warn`` and ``passed`` go on.
    """

    dataset_uri: str
    suite: str
    outcome: Literal["passed", "warn", "retrain", "stop"]
    n_expectations: int
    n_failed: int = 0
    """Expectations that did not hold."""
    n_errored: int = 0
    """Expectations that could not be evaluated on this data; they count for the outcome too."""
    failures: list[ExpectationResult] = field(default_factory=list)
    """At most 50 of both, the most severe first."""
    report_uri: str | None = None
    """JSON with this report and the results of all expectations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift(Record):
    """How far one feature moved from its reference."""

    feature: str
    kind: Literal["numeric", "categorical", "datetime"]
    status: Literal["stable", "drifted", "insufficient_data"]
    level: Literal["warn", "fail"] | None
    """How far a drifted feature moved: a PSI of at least 0.1 (warn) or 0.2 (fail)."""
    n: int
    """Rows looked at, missing values included."""
    psi: float | None
    """Population stability index; it and what follows are None if there is too little data."""
    threshold: float | None
    """What the PSI has to reach: 0.1, or what luck alone reaches at these numbers of rows."""
    p_value: float | None
    """Adjusted for all features that were looked at (Benjamini-Hochberg)."""
    ks: float | None
    """Kolmogorov-Smirnov distance, in [0, 1]; None for categories."""
    wasserstein: float | None
    """Wasserstein distance in standard deviations of the reference; None for categories."""
    js: float | None
    """Jensen-Shannon distance with base 2, in [0, 1]."""
    null_rate_delta: float | None
    unseen_rate: float | None
    """Share of rows in categories that the reference does not have; None for numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDrift(Record):
    """Drift among the rows where ``column`` equals ``value``."""

    column: str
    value: str
    verdict: Literal["stable", "drifted", "insufficient_data"]
    share_drifted: float
    n: int
    drifted: list[str]
    """The features that drifted, those that moved most first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport(Record):
    """Drift of a dataset against a stored reference profile."""

    dataset_uri: str
    profile_uri: str
    verdict: Literal["stable", "drifted", "insufficient_data"]
    share_drifted: float
    """Share of the tested features that drifted, by their weights."""
    n_reference: int
    n_current: int
    n_features: int
    features: list[FeatureDrift] = field(default_factory=list)
    """At most 100, those that moved most first."""
    segments: list[SegmentDrift] = field(default_factory=list)
    """At most 100, those that moved most first."""
    domain_auc: Metric | None = None
    """How well a classifier tells new rows from reference rows; 0.5 is not at all."""
    streak: int = 0
    """How many windows in a row drifted, up to and including this one."""
    retrain: bool = False
    """Whether the dataset drifted for as many windows in a row as were asked for."""
    report_uri: str | None = None
