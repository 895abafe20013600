"""How far the columns of a dataset moved from those a model learned from.

The effect is the population stability index (PSI) over ten bins cut at quantiles of the
reference, or the twenty commonest categories and the rest, each with a bin for missing values;
half a row is added to each bin. Luck alone gives an effect, too, and the more so the fewer the
rows and the more the categories; a feature drifted only if it moved further than that (see
``verdict``). The Kolmogorov-Smirnov, Wasserstein and Jensen-Shannon distances are reported
beside it and decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import DatasetRef, DriftReport, Metric
from airflow_mlops_provider.steps.drift.cells import Cells, Tally, tally
from airflow_mlops_provider.steps.drift.domain import ROWS, domain_auc, is_told_apart
from airflow_mlops_provider.steps.drift.profile import DriftProfile, Kind, read_profile
from airflow_mlops_provider.steps.drift.rows import Rows, rows_of, sample_of
from airflow_mlops_provider.steps.drift.verdict import (
    MIN_ROWS,
    Rule,
    by_movement,
    judged,
    measured,
    segments_judged,
    verdict_on,
)
from airflow_mlops_provider.steps.readable import readable

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlops_provider.steps.drift.cells import Counts

_SHOWN = 100


@dataclass(frozen=True)
class Evidence:
    """The two distributions of a feature, for pictures."""

    kind: Kind
    labels: Sequence[str]
    """Of each bin; the last is ``missing``, of categories the last three are ``other``, ``unseen``
    and ``missing``."""
    reference: Counts
    current: Counts


@dataclass(frozen=True)
class Comparison:
    """A report and what it was made from."""

    report: DriftReport
    evidence: Mapping[str, Evidence]
    """By feature, for all of them."""
    features: Sequence[Cells]
    cells: Mapping[str, Counts]
    """Rows a cell, by feature."""


def detect_drift(
    current: DatasetRef | pd.DataFrame | str,
    profile_uri: str,
    *,
    columns: Sequence[str] | None = None,
    max_share: float = 0.3,
    weights: Mapping[str, float] | None = None,
    domain_classifier: bool = False,
    dataset_uri: str | None = None,
) -> DriftReport:
    """Return the report of :func:`compare`."""
    return compare(
        current,
        profile_uri,
        columns=columns,
        max_share=max_share,
        weights=weights,
        domain_classifier=domain_classifier,
        dataset_uri=dataset_uri,
    ).report


def compare(
    current: DatasetRef | pd.DataFrame | Rows | str,
    profile_uri: str,
    *,
    columns: Sequence[str] | None = None,
    max_share: float = 0.3,
    weights: Mapping[str, float] | None = None,
    domain_classifier: bool = False,
    dataset_uri: str | None = None,
) -> Comparison:
    """Compare ``current`` with a profile, feature by feature, in one pass and constant memory.

    Neither the order of rows and columns nor the files they lie in change the report; columns
    that the profile does not know are ignored, and a file that comes twice counts once.

    Args:
        current: A dataset, a frame, rows, or Parquet or CSV files: a path, folder, glob or URI.
        profile_uri: What ``profile_dataset`` returned.
        columns: Features to look at; None means all of the profile.
        max_share: From this share of drifted features on (of those with enough rows), the
            dataset drifted. Between 0 (exclusive) and 1.
        weights: How much a feature counts in that share, at least 0; if given, features that are
            not named count nothing. By default all count the same.
        domain_classifier: Also ask a classifier to tell current from reference rows; the dataset
            drifted as well if its AUC is above 0.6, and the interval above 0.5. This holds 8
            bytes a row.
        dataset_uri: How the report calls ``current``.

    Returns:
        The report and its evidence. A feature is ``insufficient_data`` below 500 rows on either
        side, and so is the dataset if all its features are. Segments inform; the verdict on the
        dataset is that on all rows.

    Raises:
        DataError: the profile or the data is gone or broken, a feature is missing from either, or
            a column has another kind of values than in the profile (schema skew).
        ParameterError: ``max_share`` or ``weights`` is out of range, or the profile has no sample
            for a classifier.
    """
    profile = read_profile(profile_uri)
    features = _features(profile, columns, profile_uri)
    rule = _rule(features, max_share, weights)
    if domain_classifier and profile.sample_uri is None:
        raise ParameterError(
            f"domain_classifier needs rows of the reference, and {profile_uri} has none. Profile "
            f"the data again with sample_rows={ROWS}."
        )
    rows = rows_of(current, dataset_uri)
    values = {column: [*inside] for column, inside in profile.segments.items()}
    counted = tally(rows, features, values)
    found = judged([measured(each, counted.cells[each.name]) for each in features])
    n_current = found[0].n
    enough = min(profile.n, n_current) >= MIN_ROWS
    auc = _domain_auc(profile, rows, features) if domain_classifier and enough else None
    verdict, share = verdict_on(found, rule)
    report = DriftReport(
        dataset_uri=rows.uri,
        profile_uri=profile_uri,
        verdict="drifted" if is_told_apart(auc) else verdict,
        share_drifted=share,
        n_reference=profile.n,
        n_current=n_current,
        n_features=len(found),
        features=sorted(found, key=by_movement)[:_SHOWN],
        segments=segments_judged(features, profile.segments, counted.segments, rule)[:_SHOWN],
        domain_auc=auc,
    )
    evidence = {each.name: _evidence(each, counted) for each in features}
    return Comparison(report, evidence, features, counted.cells)


def reference_sample(profile_uri: str) -> pd.DataFrame | None:
    """Return the rows that were kept with a profile, None if none were.

    Raises:
        DataError: the profile or its sample is gone or broken.
    """
    sample_uri = read_profile(profile_uri).sample_uri
    return None if sample_uri is None else _sample(sample_uri).to_pandas()


def _domain_auc(profile: DriftProfile, rows: Rows, features: Sequence[Cells]) -> Metric | None:
    assert profile.sample_uri is not None, "compare asks for it first"
    reference = _sample(profile.sample_uri)
    return domain_auc(reference, sample_of(rows, [each.name for each in features], ROWS), features)


def _sample(uri: str) -> pa.Table:
    with readable(uri), fsspec.open(uri, "rb") as file:
        return pq.read_table(file)


def _features(profile: DriftProfile, columns: Sequence[str] | None, uri: str) -> list[Cells]:
    names = list(dict.fromkeys(columns or profile.features))
    unknown = [name for name in names if name not in profile.features]
    if unknown:
        raise DataError(
            f"The profile {uri} has no features {unknown}; it has {[*profile.features]}. "
            "Correct `columns`, or profile the data again."
        )
    return [Cells(name, profile.features[name]) for name in names]


def _rule(features: Sequence[Cells], max_share: float, weights: Mapping[str, float] | None) -> Rule:
    if not 0 < max_share <= 1:
        raise ParameterError.of("max_share", "detect_drift", "above 0 and at most 1", max_share)
    names = [each.name for each in features]
    if weights is None:
        return Rule(max_share, dict.fromkeys(names, 1.0))
    unknown = [name for name in weights if name not in names]
    usable = all(0 <= weight < math.inf for weight in weights.values())
    if unknown or not usable or not any(weights.values()):
        wanted = f"numbers of at least 0, not all 0, for some of {names}"
        raise ParameterError.of("weights", "detect_drift", wanted, dict(weights))
    return Rule(max_share, {name: float(weights.get(name, 0)) for name in names})


def _evidence(feature: Cells, counted: Tally) -> Evidence:
    return Evidence(
        kind=feature.profile.kind,
        labels=feature.labels(),
        reference=feature.bins(feature.reference),
        current=feature.bins(counted.cells[feature.name]),
    )
