"""What a drift profile holds: for each column the rows in each cell, and never the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_mlops_provider.exceptions import DataError, RecordError
from airflow_mlops_provider.records import Record
from airflow_mlops_provider.workspace import read_json

VERSION = 2

Kind = Literal["numeric", "categorical", "datetime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureProfile(Record):
    """The distribution of one column."""

    kind: Kind
    type: str
    """Arrow type; a column of type ``null`` may later hold anything."""
    counts: list[int]
    """Rows in each cell and, last, missing. Cells of numbers lie up to and with each edge, and
    one above all; cells of categories are the levels, and one for all others."""
    edges: list[float] = field(default_factory=list)
    bins: list[float] = field(default_factory=list)
    """Those of the edges that end a bin of the PSI."""
    levels: list[str] = field(default_factory=list)
    """At most 10,000, the commonest first."""
    std: float | None = None
    """Of the finite numbers, as is what follows; None if there are none, or it overflows."""
    mean: float | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftProfile(Record):
    """The distributions of a dataset's columns."""

    version: int
    n: int
    source: str
    """Logical hash of the dataset."""
    features: dict[str, FeatureProfile]
    segments: dict[str, dict[str, dict[str, list[int]]]]
    """Rows in each bin of a feature, by column, its value, and the feature."""
    sample_uri: str | None


def read_profile(uri: str) -> DriftProfile:
    """Read a profile.

    Raises:
        DataError: it is gone, broken, of another version, or no drift profile.
    """
    content = _read(uri)
    if not isinstance(content, Mapping) or "features" not in content:
        raise DataError(f"{uri} is no drift profile. Name what ProfileDatasetOperator gave.")
    version = content.get("version", 1)
    if version != VERSION:
        raise DataError(
            f"{uri} is a drift profile of version {version}, expected version {VERSION}. "
            "Profile the data again."
        )
    try:
        profile = DriftProfile.from_xcom(content)
    except RecordError as error:
        raise DataError(f"{uri} is broken: {error} Profile the data again.") from error
    broken = [name for name, each in profile.features.items() if not _is_whole(each, profile.n)]
    segments = [inside for values in profile.segments.values() for inside in values.values()]
    if broken or any(inside.keys() != profile.features.keys() for inside in segments):
        raise DataError(
            f"{uri} is broken: the counts of {broken or 'its segments'} do not belong to its "
            "features. Profile the data again."
        )
    return profile


def _read(uri: str) -> Any:
    try:
        return read_json(uri)
    except FileNotFoundError as error:
        raise DataError(
            f"No drift profile at {uri}. Run the task that profiles the training data again."
        ) from error
    except ValueError as error:
        raise DataError(f"{uri} is no drift profile: {error}. Profile the data again.") from error


def _is_whole(profile: FeatureProfile, n: int) -> bool:
    cells = len(profile.levels if profile.kind == "categorical" else profile.edges)
    return (
        len(profile.counts) == cells + 2
        and sum(profile.counts) == n
        and set(profile.bins) <= set(profile.edges)
        and profile.edges == sorted(profile.edges)
    )
