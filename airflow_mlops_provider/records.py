"""What tasks hand to each other: small frozen records of JSON values.

A record holds URIs, hashes, versions, metrics and small tables, never data frames, models or
NaN. Airflow refuses foreign classes when it reads an XCom, so operators return
:meth:`Record.to_xcom` (a plain dict) and rebuild the record with :meth:`Record.from_xcom`,
which validates every field and names the one that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from airflow_mlops_provider.exceptions import RecordError

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of all records."""

    def to_xcom(self) -> dict[str, Any]:
        """Return a plain dict of JSON values, after checking that it reads back."""
        payload = asdict(self)
        self.from_xcom(payload)
        return payload

    @classmethod
    def from_xcom(cls, payload: object) -> Self:
        """Rebuild the record from what another task returned.

        Raises:
            RecordError: ``payload`` is not a dict of this record's fields; the message names
                the record and each wrong field.
        """
        if isinstance(payload, cls):
            return payload
        if not isinstance(payload, Mapping):
            raise RecordError(
                f"Expected a {cls.__name__} (the dict another task returned), got "
                f"{type(payload).__name__} {str(payload)[:80]!r}. Pass `upstream.output`, and use "
                "render_template_as_native_obj=True if it goes through a Jinja string."
            )
        from pydantic import ValidationError

        try:
            adapter = _adapter(cls)  # type: ignore[arg-type]  # mypy doubts that a class hashes
            return cast("Self", adapter.validate_python(dict(payload)))
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or cls.__name__}: {item['msg']}"
                for item in error.errors()[:5]
            )
            raise RecordError(f"Not a valid {cls.__name__}: {wrong}.") from error


@cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter  # late: DAG files are parsed without it

    strict = ConfigDict(extra="forbid", allow_inf_nan=False)
    cls.__pydantic_config__ = strict  # type: ignore[attr-defined]  # read by TypeAdapter
    return TypeAdapter(cls)


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
class Metric(Record):
    """One figure with its confidence interval and the rows behind it."""

    value: float
    low: float | None
    high: float | None
    n: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SkewExample(Record):
    """One row in which training and serving disagree; values as text, at most 80 characters."""

    entity: dict[str, str]
    """Join key to value."""
    at: str
    """The moment looked from, ISO 8601."""
    offline: str | None
    online: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSkew(Record):
    """How far what is served of one feature differs from what training would see."""

    feature: str
    verdict: Literal["same", "skewed", "insufficient_data"]
    n: int
    """Rows compared; those in which neither side has a value tell nothing, and do not count."""
    n_different: int
    share: float
    """``n_different / n``; 0 if nothing was compared."""
    largest_difference: float | None
    """Largest absolute difference of numbers."""
    n_only_offline: int
    """Rows with a value in training, and none in serving."""
    n_only_online: int
    n_expired: int
    """Of these, rows in which serving gives a value that is older than the view's TTL."""
    n_newer: int
    """Rows left out because the value served is newer than the moment looked from."""
    offline_type: str | None
    online_type: str | None
    type_changed: bool
    materialized_until: str | None
    """End of the view's newest materialized window, ISO 8601."""
    examples: list[SkewExample] = field(default_factory=list)
    """At most 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSkewReport(Record):
    """What serving gave, compared with what a training set of the same moment would hold."""

    mode: Literal["online", "logged"]
    source_uri: str
    """The entities, or the predictions whose inputs were compared."""
    verdict: Literal["same", "skewed", "insufficient_data"]
    n_rows: int
    n_left_out: int
    """Rows of the log without an answer, of shadows, or without a join key."""
    n_features: int
    skewed: list[str]
    """At most 100."""
    not_logged: list[str]
    """Features of the service that the log has no input of; at most 100."""
    tolerance: float
    max_share: float
    features: list[FeatureSkew] = field(default_factory=list)
    """At most 100, those that differ most first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRef(Record):
    """A dataset cut into a part to learn from and a part to be judged on."""

    strategy: Literal["time", "group", "stratified"]
    train: DatasetRef
    test: DatasetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef(Record):
    """A trained model as MLflow logged it, before any registration."""

    model_uri: str
    model_id: str
    run_id: str
    target: str
    features: list[str]
    params: dict[str, Any]
    metrics: dict[str, float]
    train_hash: str
    """Logical hash of the dataset it learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceMetric(Record):
    """A metric on the rows where ``column`` equals ``value``."""

    column: str
    value: str
    metric: str
    score: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport(Record):
    """How a model did on rows it never saw."""

    model_uri: str
    dataset_uri: str
    task: Literal["classification", "regression"]
    metrics: dict[str, Metric]
    slices: list[SliceMetric]
    predictions_uri: str
    """Parquet with ``target`` and ``score``, row for row as in the dataset."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersionRef(Record):
    """A version in the MLflow model registry."""

    name: str
    version: str
    model_uri: str
    model_id: str | None
    """The logged model behind it; None for a version registered from elsewhere."""
    run_id: str | None
    aliases: list[str]
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRef(Record):
    """An endpoint of a serving target and how its traffic is split."""

    endpoint: str
    url: str
    """Where clients send ``/invocations``."""
    deployments: dict[str, str]
    """Deployment name to the model URI it serves."""
    traffic: dict[str, int]
    """Percent by deployment; sums to 100, or empty when nothing is routed yet."""
    mirror_traffic: dict[str, int]
    generation: int
    """Grows with each change; a write names the generation it was decided on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutVerdict(Record):
    """How a rollout ended, with the evidence it was decided on."""

    endpoint: str
    champion: str
    candidate: str
    state: Literal["SUCCEEDED", "ROLLED_BACK", "ROLLBACK_FAILED", "PAUSED"]
    reason: str
    steps: list[dict[str, Any]]
    """One entry a weight step: ``weight``, ``seconds``, requests and errors of both sides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionBatchRef(Record):
    """Predictions written or collected as one Parquet file."""

    uri: str
    n_rows: int
    file_hash: str
    model_versions: list[str]
    window_start: str | None = None
    window_end: str | None = None
    n_unreadable: int = 0
    """Lines of the prediction log that a killed process left torn; they are not in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringReport(Record):
    """What live traffic says of a model: volume, errors, drift and, once labels came, quality."""

    endpoint: str
    n_predictions: int
    n_labelled: int
    error_rate: float
    latency_p95_ms: float | None
    drift: DriftReport | None
    performance: dict[str, Metric]
    signals: list[Literal["drift", "performance"]]
    """Which signals crossed their threshold; each asks for retraining."""
    reasons: list[str]
