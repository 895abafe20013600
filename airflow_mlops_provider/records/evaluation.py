"""How good a model is, and whether that is good enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_mlops_provider.records.base import Metric, Record
from airflow_mlops_provider.records.data import DatasetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec(Record):
    """On what a model is judged, and by what."""

    dataset: DatasetRef
    target: str
    """Column with the truth: 0 and 1, classes 0 to k - 1, or numbers."""
    task: Literal["classification", "regression"] = "classification"
    slices: list[str | dict[str, Any]] = field(default_factory=list)
    """Column names; ``{"column": …, "bins": 4}`` (quantiles) or ``{"column": …, "bins": [edges]}``;
    ``{"name": …, "where": expression over columns}``."""
    slice_metrics: list[str] = field(default_factory=list)
    """By default the first of the task."""
    min_slice_rows: int = 100
    threshold: float | str | dict[str, float] = 0.5
    """Of deciding class 1: a number, ``"f1"`` or ``"cost"`` (the best on these rows), or
    ``{"recall": 0.8}`` (the highest that keeps it)."""
    costs: list[list[float]] | None = None
    """``costs[i][j]``: cost of deciding class j when i is true."""
    fairness: list[str] = field(default_factory=list)
    """Columns whose groups are to be treated alike."""
    custom_metrics: dict[str, str] = field(default_factory=dict)
    """Name to the import path of ``function(truth, score) -> float``; more is better."""
    importance_repeats: int = 0
    """How often each column is permuted; 0 leaves the permutation importance out."""
    golden: DatasetRef | None = None
    """Rows the model has to get right, judged apart by the same figures."""
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceMetric(Record):
    """A metric on the rows of one slice."""

    column: str
    """The column, or ``where`` for a slice by expression."""
    value: str
    metric: str
    score: float
    n: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness(Record):
    """How differently the groups of one column are treated; differences and ratios of extremes."""

    column: str
    groups: dict[str, dict[str, float]]
    """At most 50 groups: ``n``, ``selection_rate``, ``recall``, ``false_positive_rate``."""
    demographic_parity_difference: float
    demographic_parity_ratio: float
    equalized_odds_difference: float | None
    """The larger of the differences in recall and in false positive rate; None if a group lacks
    a class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance(Record):
    """How much worse the first metric gets when a column is shuffled."""

    feature: str
    mean: float
    std: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost(Record):
    """What serving the model costs, measured on a real row."""

    latency_p50_ms: float
    latency_p95_ms: float
    load_seconds: float
    size_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport(Record):
    """How a model did on rows it never saw."""

    model_uri: str
    dataset_uri: str
    task: Literal["classification", "regression"]
    metrics: dict[str, Metric]
    slices: list[SliceMetric]
    """At most 200, the worst first."""
    predictions_uri: str
    """Parquet with ``target`` and ``score`` (or ``score_0``, ``score_1``, …), row for row as in
    the dataset."""
    threshold: float | None = None
    confusion: list[list[int]] | None = None
    """Counts; rows are the truth, columns what was decided."""
    calibration_error: float | None = None
    """Expected calibration error over ten bins of equally many rows (Naeini et al. 2015)."""
    fairness: list[Fairness] = field(default_factory=list)
    importance: list[Importance] = field(default_factory=list)
    """At most 50, the most important first."""
    golden: dict[str, Metric] = field(default_factory=dict)
    cost: ModelCost | None = None
    custom_metrics: dict[str, str] = field(default_factory=dict)
    confidence: float = 0.95
    greater_is_better: dict[str, bool] = field(default_factory=dict)
    """Of each metric."""
    features: list[str] = field(default_factory=list)
    """Columns of the model's signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusableModel(Record):
    """A registered model that cannot be judged: its files are gone, or its columns."""

    model_uri: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactCheck(Record):
    """Whether a model answers in a clean process as it does in the task."""

    model_uri: str
    environment: Literal["local", "declared"]
    outcome: Literal["passed", "failed"]
    n: int
    """Rows that were asked, those of the input example included."""
    n_differing: int
    largest_difference: float
    """Absolute, of all answers."""
    tolerance: float
    seconds: float
    """What it took to load and to answer there."""
    python: str
    different_requirements: list[str] = field(default_factory=list)
    """At most 20: what the model declares, and the environment has in another version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReason(Record):
    """One check of the gate, with the numbers behind it."""

    check: str
    passed: bool
    detail: str
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict(Record):
    """Whether a challenger may take the champion's place.

    ``keep_champion`` is not a failure: the challenger is sound, only not shown to be better.
    """

    outcome: Literal["promote", "keep_champion", "refused"]
    challenger_uri: str
    champion_uri: str | None
    reasons: list[GateReason]
