"""From counts to verdicts on features, segments and the dataset.

A feature drifted if its PSI is at least 0.1 and at least the 99.9 % quantile of what luck alone
gives, and its p-value is below 1 % after Benjamini-Hochberg over all features that have enough
rows. The dataset drifted if the features that did weigh at least ``max_share``. All segments are
judged together by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from airflow_mlops_provider.records import FeatureDrift, SegmentDrift
from airflow_mlops_provider.steps.drift.statistics import (
    Null,
    adjusted,
    jensen_shannon,
    kolmogorov_smirnov,
    null_of,
    null_of_bins,
    psi,
    wasserstein,
)

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.drift.cells import Cells, Counts

Verdict = Literal["stable", "drifted", "insufficient_data"]

MIN_ROWS = 500
"""On either side, or there is no verdict; that is ten a bin, of which there are at most 30."""
_MIN_PSI, _FAIL_PSI = 0.1, 0.2
_SIGNIFICANCE = 0.01
_LUCK = 0.001
_SHOWN = 20


@dataclass(frozen=True)
class Rule:
    """When a dataset drifted."""

    max_share: float
    weights: Mapping[str, float]
    """By feature."""


def measured(feature: Cells, current: Counts) -> FeatureDrift:
    """Measure one feature on all rows; its status and p-value are those it would have alone.

    Args:
        feature: The feature with its reference.
        current: Rows a cell.
    """
    reference, n = feature.reference, int(current.sum())
    found = _tested(
        feature, feature.bins(reference), feature.bins(current), partial(null_of, feature)
    )
    if found.psi is None:
        return found
    rates = current / n - reference / reference.sum()
    found = replace(
        found,
        null_rate_delta=float(rates[-1]),
        unseen_rate=float(rates[-2]) if feature.knows_all else None,
    )
    if feature.is_categorical:
        return found
    return replace(
        found,
        ks=kolmogorov_smirnov(reference[:-1], current[:-1]),
        wasserstein=wasserstein(feature, current[:-1]),
    )


def judged(features: Sequence[FeatureDrift]) -> list[FeatureDrift]:
    """Adjust the p-values for each other (Benjamini-Hochberg), and the statuses to them."""
    p_values = iter(adjusted([each.p_value for each in features if each.p_value is not None]))
    return [
        each if each.p_value is None else _with_p_value(each, next(p_values)) for each in features
    ]


def by_movement(feature: FeatureDrift) -> tuple[bool, float, str]:
    """Sort what drifted first, and then by PSI."""
    return feature.status != "drifted", -(feature.psi or 0), feature.feature


def verdict_on(features: Sequence[FeatureDrift], rule: Rule) -> tuple[Verdict, float]:
    """Return the verdict, and the share of the drifted among the tested features by weight."""
    weight = {"stable": 0.0, "drifted": 0.0, "insufficient_data": 0.0}
    for each in features:
        weight[each.status] += rule.weights[each.feature]
    tested = weight["stable"] + weight["drifted"]
    if not tested:
        return "insufficient_data", 0.0
    share = weight["drifted"] / tested
    return "drifted" if share >= rule.max_share else "stable", share


def segments_judged(
    features: Sequence[Cells],
    reference: Mapping[str, Mapping[str, Mapping[str, Sequence[int]]]],
    current: Mapping[str, Mapping[str, Counts]],
    rule: Rule,
) -> list[SegmentDrift]:
    """Judge the values of all segment columns together; what drifted comes first.

    Args:
        features: What is compared.
        reference: Rows a bin by column, value and feature.
        current: By column and feature, rows a value (in the order of ``reference``) and bin.
        rule: When a segment drifted.
    """
    segments = [(column, value) for column, values in reference.items() for value in values]
    tests = judged(
        [
            _in_segment(each, np.array(inside[each.name]), current[column][each.name][place])
            for column, values in reference.items()
            for place, inside in enumerate(values.values())
            for each in features
        ]
    )
    groups = [tests[at : at + len(features)] for at in range(0, len(tests), len(features))]
    found = [_segment(*names, group, rule) for names, group in zip(segments, groups, strict=True)]
    return sorted(
        found, key=lambda each: (each.verdict != "drifted", -each.share_drifted, each.column)
    )


def _tested(
    feature: Cells, reference: Counts, current: Counts, null_of: Callable[[int], Null]
) -> FeatureDrift:
    """Test rows a bin against the null distribution for their number."""
    nothing = FeatureDrift(
        feature=feature.name,
        kind=feature.profile.kind,
        status="insufficient_data",
        level=None,
        n=int(current.sum()),
        psi=None,
        threshold=None,
        p_value=None,
        ks=None,
        wasserstein=None,
        js=None,
        null_rate_delta=None,
        unseen_rate=None,
    )
    if min(reference.sum(), current.sum()) < MIN_ROWS:
        return nothing
    effect, null = float(psi(reference, current)), null_of(int(current.sum()))
    threshold = max(_MIN_PSI, null.quantile(_LUCK))
    return replace(
        nothing,
        status="drifted" if effect >= threshold else "stable",
        level="fail" if effect >= _FAIL_PSI else "warn",
        psi=effect,
        threshold=threshold,
        p_value=null.p_value(effect),
        js=jensen_shannon(reference, current),
    )


def _with_p_value(feature: FeatureDrift, p_value: float) -> FeatureDrift:
    drifted = feature.status == "drifted" and p_value < _SIGNIFICANCE
    return replace(
        feature,
        status="drifted" if drifted else "stable",
        level=feature.level if drifted else None,
        p_value=p_value,
    )


def _in_segment(feature: Cells, reference: Counts, current: Counts) -> FeatureDrift:
    null = partial(null_of_bins, tuple(reference.tolist()), feature.unseen_rate)
    return _tested(feature, reference, current, null)


def _segment(column: str, value: str, features: Sequence[FeatureDrift], rule: Rule) -> SegmentDrift:
    verdict, share = verdict_on(features, rule)
    drifted = sorted((each for each in features if each.status == "drifted"), key=by_movement)
    return SegmentDrift(
        column=column,
        value=value,
        verdict=verdict,
        share_drifted=share,
        n=max(each.n for each in features),
        drifted=[each.feature for each in drifted[:_SHOWN]],
    )
