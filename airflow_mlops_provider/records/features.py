"""How serving's features compare with training's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from airflow_mlops_provider.records.base import Record


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
