"""The inputs of live predictions: are their values sound, and are they those of the reference?

Both answers come from one pass over the log, which counts rows in the cells of the drift profile.
A column may have another type than in the profile, because another model version sends something
else, and one log holds both; its values are then read as the profile's type, and those that
cannot be count as mismatches and as missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from airflow_mlops_provider.records import DriftReport, FeatureQuality
from airflow_mlops_provider.steps.drift.compare import Comparison, compare
from airflow_mlops_provider.steps.drift.profile import read_profile
from airflow_mlops_provider.steps.drift.rows import kind_of
from airflow_mlops_provider.steps.monitor.log import quoted
from airflow_mlops_provider.steps.monitor.settings import finding, low_high, proven_above
from airflow_mlops_provider.steps.prediction_log import INPUT

if TYPE_CHECKING:
    from airflow_mlops_provider.records import Finding
    from airflow_mlops_provider.steps.drift.cells import Cells, Counts
    from airflow_mlops_provider.steps.drift.profile import DriftProfile
    from airflow_mlops_provider.steps.monitor.log import PredictionLog
    from airflow_mlops_provider.steps.monitor.service import Traffic

MAX_FEATURES = 100
MAX_NAMES = 20
_SHOWN = 5
_TYPES = {"numeric": "DOUBLE", "categorical": "VARCHAR", "datetime": "TIMESTAMPTZ"}


@dataclass(frozen=True)
class Inputs:
    """What a window's inputs are, beside those of the reference."""

    drift: DriftReport | None
    comparison: Comparison | None = None
    quality: list[FeatureQuality] = field(default_factory=list)
    """The worst first."""
    missing: list[str] = field(default_factory=list)
    """Features of the profile that the log does not have."""
    new: list[str] = field(default_factory=list)
    """Inputs with values that the profile does not know."""
    expressions: Mapping[str, str] = field(default_factory=dict)
    """Each feature as SQL that gives values of the profile's type."""


@dataclass(frozen=True)
class _Doubt:
    """One way in which an input is wrong."""

    what: str
    value: float
    threshold: float
    crossed: bool


def inputs_of(log: PredictionLog, profile_uri: str, max_share: float, n_answered: int) -> Inputs:
    """Count the inputs of answered predictions in the cells of a profile.

    Raises:
        DataError: the profile cannot be used.
        ParameterError: ``max_share`` is out of range.
    """
    profile = read_profile(profile_uri)
    expressions = {
        name: _expression(log, name, each.kind)
        for name, each in profile.features.items()
        if name in log.inputs
    }
    missing = [name for name in profile.features if name not in expressions]
    new = _with_values(log, [name for name in log.inputs if name not in profile.features])
    if not expressions or not n_answered:
        return Inputs(None, missing=missing, new=new, expressions=expressions)
    absent = {name: "CAST(NULL AS VARCHAR)" for name in profile.segments if name in missing}
    comparison = compare(
        log.rows(absent | expressions), profile_uri, columns=[*expressions], max_share=max_share
    )
    mismatched = _mismatches(log, expressions, profile)
    quality = [
        _quality(each, comparison.cells[each.name], mismatched.get(each.name, 0))
        for each in comparison.features
    ]
    return Inputs(
        comparison.report,
        comparison,
        sorted(quality, key=_badness, reverse=True),
        missing=missing,
        new=new,
        expressions=expressions,
    )


def judge_quality(
    inputs: Inputs | None,
    traffic: Traffic,
    n_future: int,
    thresholds: Mapping[str, float | None],
    min_rows: int,
) -> Finding:
    """Judge missing values, new categories, ranges, types, refused requests and clocks."""
    n = traffic.n
    doubts = [*_request_doubts(traffic, thresholds)]
    if inputs is not None:
        doubts += _feature_doubts(inputs, thresholds)
    odd = _oddities(inputs, n_future)
    crossed = [doubt for doubt in doubts if doubt.crossed]
    gone = inputs.missing if inputs is not None and traffic.n_answered else []
    if n < min_rows:
        reason = f"Data quality is unknown: {n} predictions, at least {min_rows} are needed.{odd}"
        return finding("quality", reason, crossed=None, n=n)
    if gone:
        reason = f"The log lacks {len(gone)} features of the reference: {_names(gone)}.{odd}"
        value, total = float(len(gone)), 0.0
        return finding("quality", reason, crossed=True, value=value, threshold=total, n=n)
    if crossed:
        worst = max(crossed, key=lambda doubt: doubt.value - doubt.threshold)
        told = "; ".join(doubt.what for doubt in crossed[:_SHOWN])
        reason = f"{told}{'; ...' if len(crossed) > _SHOWN else ''}.{odd}"
        return finding(
            "quality", reason, crossed=True, value=worst.value, threshold=worst.threshold, n=n
        )
    looked = "and inputs" if inputs is not None else "(inputs not, for want of a profile)"
    reason = f"Nothing is wrong with requests {looked} of {n} predictions.{odd}"
    return finding("quality", reason, crossed=False, n=n, warning=bool(odd))


def judge_drift(inputs: Inputs | None, reference: str, limit: float | None) -> Finding:
    """Judge the drift of the inputs."""
    if inputs is None:
        lacking = "no profile of the training data was given"
        if reference == "previous":
            lacking = "no earlier window of this model is known"
        return finding("drift", f"Drift was not looked at: {lacking}.", crossed=None)
    report = inputs.drift
    if report is None:
        nothing = (
            "the log has none of the features"
            if not inputs.expressions
            else ("no live prediction was answered")
        )
        return finding("drift", f"Drift was not looked at: {nothing}.", crossed=None)
    drifted = [item.feature for item in report.features if item.status == "drifted"]
    rows = "training rows" if reference == "training" else "rows of the window before"
    words = {"insufficient_data": "too few to judge"}
    reason = (
        f"The inputs are {words.get(report.verdict, report.verdict)}: {len(drifted)} of "
        f"{report.n_features} features drifted{f' ({_names(drifted)})' if drifted else ''} on "
        f"{report.n_current} predictions against {report.n_reference} {rows}."
    )
    unknown = report.verdict == "insufficient_data"
    return finding(
        "drift",
        reason,
        crossed=None if unknown else limit is not None and report.verdict == "drifted",
        value=report.share_drifted,
        threshold=limit,
        n=report.n_current,
    )


def _expression(log: PredictionLog, name: str, kind: str) -> str:
    column = f"{INPUT}{name}"
    type_ = log.types[column]
    known = kind_of(type_)
    fits = known == kind or (kind == "numeric" and pa.types.is_boolean(type_))
    if fits and not pa.types.is_null(type_):
        return quoted(column)
    if kind == "datetime" and known == "numeric":
        return "CAST(NULL AS TIMESTAMPTZ)"
    return f"TRY_CAST({quoted(column)} AS {_TYPES[kind]})"


def _with_values(log: PredictionLog, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    counts = log.one([f"count({quoted(INPUT + name)})" for name in names])
    return [name for name, n in zip(names, counts, strict=True) if n]


def _mismatches(
    log: PredictionLog, expressions: Mapping[str, str], profile: DriftProfile
) -> dict[str, int]:
    """Return how many values of each feature are not of the profile's type."""
    read = [name for name, each in expressions.items() if "CAST(" in each]
    read = [name for name in read if profile.features[name].type != "null"]
    if not read:
        return {}
    counted = log.one([f"count({quoted(INPUT + n)}) - count({expressions[n]})" for n in read])
    return dict(zip(read, counted, strict=True))


def _quality(feature: Cells, counts: Counts, mismatched: int) -> FeatureQuality:
    n, profile = int(counts.sum()), feature.profile
    reference = feature.reference
    outside = None
    if profile.minimum is not None and profile.maximum is not None:
        edges = np.array(profile.edges)
        below = int(edges.searchsorted(profile.minimum, "left"))
        above = int(edges.searchsorted(profile.maximum, "left")) + 1
        outside = int(counts[:below].sum() + counts[above:-1].sum())
    return FeatureQuality(
        feature=feature.name,
        n=n,
        missing_rate=int(counts[-1]) / n,
        reference_missing_rate=float(reference[-1] / reference.sum()),
        unseen_rate=int(counts[-2]) / n if feature.knows_all else None,
        out_of_range_rate=None if outside is None else outside / n,
        mismatch_rate=mismatched / n,
    )


def _badness(quality: FeatureQuality) -> tuple[float, str]:
    return (
        max(
            quality.missing_rate - (quality.reference_missing_rate or 0),
            quality.unseen_rate or 0,
            quality.out_of_range_rate or 0,
            quality.mismatch_rate,
        ),
        quality.feature,
    )


def _request_doubts(traffic: Traffic, thresholds: Mapping[str, float | None]) -> Sequence[_Doubt]:
    limit = thresholds["refused_rate"]
    if limit is None or not traffic.n:
        return []
    rate = traffic.n_refused / traffic.n
    what = f"{traffic.n_refused} of {traffic.n} requests were refused ({rate:.1%})"
    return [_Doubt(what, rate, limit, proven_above(traffic.n_refused, traffic.n, limit))]


def _feature_doubts(inputs: Inputs, thresholds: Mapping[str, float | None]) -> list[_Doubt]:
    n_reference = inputs.drift.n_reference if inputs.drift else 0
    doubts = []
    for each in inputs.quality:
        usual = low_high(round((each.reference_missing_rate or 0) * n_reference), n_reference)[1]
        rates = {
            "missing_rate": (each.missing_rate, usual, "missing"),
            "unseen_rate": (each.unseen_rate, 0.0, "in new categories"),
            "out_of_range_rate": (each.out_of_range_rate, 0.0, "out of range"),
            "mismatch_rate": (each.mismatch_rate, 0.0, "of another type"),
        }
        for name, (rate, allowed, words) in rates.items():
            limit = thresholds[name]
            if limit is None or rate is None:
                continue
            crossed = proven_above(round(rate * each.n), each.n, limit + allowed)
            what = f"{rate:.1%} of {each.feature!r} is {words}"
            doubts.append(_Doubt(what, rate, limit + allowed, crossed))
    return doubts


def _oddities(inputs: Inputs | None, n_future: int) -> str:
    told = ""
    if n_future:
        told += f" {n_future} predictions claim to be of the future and were left out."
    if inputs is not None and inputs.new:
        told += f" The reference does not know the inputs {_names(inputs.new)}."
    return told


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
