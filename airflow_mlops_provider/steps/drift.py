"""How far the columns of a dataset moved from those a model learned from.

The effect is the population stability index (PSI) over ten bins cut at quantiles of the
reference, or the twenty commonest categories and the rest, each with a bin for missing values;
half a row is added to each bin. Whether an effect is more than luck is asked of its null
distribution: PSIs of samples, as large as ours, that are drawn from the reference itself
(multinomial bootstrap). A feature drifted if its PSI is at least 0.1 and the 99.9 % quantile of
the null, and its p-value survives Benjamini-Hochberg at 1 % over all features. Fixed PSI
thresholds alone would cry wolf on small samples and on many categories.

The profile holds edges and counts, so the reference rows are never needed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import DatasetRef, DriftReport, FeatureDrift
from airflow_mlops_provider.steps.snapshot import read_dataset
from airflow_mlops_provider.workspace import join, read_json, store_by_content, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]

Verdict = Literal["stable", "drifted", "insufficient_data"]

MIN_PSI = 0.1
SIGNIFICANCE = 0.01
_BINS = 10
_LEVELS = 20
_MIN_ROWS = 500
_MIN_ROWS_A_BIN = 10
_NULL_QUANTILE = 0.999
_DRAWS = 9_999
_SEED = 0


def profile_dataset(dataset: DatasetRef, columns: Sequence[str] | None, workspace: str) -> str:
    """Keep what later data is compared with; return the URI of the JSON profile.

    Args:
        dataset: The reference, usually what a model was trained on.
        columns: Numeric, boolean or text columns; None takes all of these.
        workspace: The profile lies under ``profiles/``, named by its content.

    Raises:
        DataError: a column is unknown, or holds times or nested values.
    """
    frame = read_dataset(dataset, columns)
    chosen = frame.columns if columns else [name for name in frame if _kind(frame[name])]
    profile = {
        "n": len(frame),
        "source": dataset.logical_hash,
        "features": {name: _feature_profile(frame[name]) for name in chosen},
    }
    uri, _ = store_by_content(
        join(workspace, "profiles"), ".json", lambda target: write_json(target, profile)
    )
    return uri


def detect_drift(
    current: DatasetRef | pd.DataFrame,
    profile_uri: str,
    *,
    columns: Sequence[str] | None = None,
    max_share: float = 0.3,
    dataset_uri: str | None = None,
) -> DriftReport:
    """Compare ``current`` with a profile, feature by feature.

    Args:
        current: A dataset, or a frame.
        profile_uri: What :func:`profile_dataset` returned.
        columns: Features to look at; None means all of the profile.
        max_share: From this share of drifted features on (of those with enough rows), the
            dataset drifted. Between 0 (exclusive) and 1.
        dataset_uri: How the report calls a frame.

    Returns:
        The report. A feature is ``insufficient_data`` below 500 rows or 10 a bin on either side,
        and so is the dataset if all its features are.

    Raises:
        DataError: the profile is gone, or a feature is missing from it or from ``current``.
        ParameterError: ``max_share`` is out of range.
    """
    if not 0 < max_share <= 1:
        raise ParameterError.of("max_share", "detect_drift", "above 0 and at most 1", max_share)
    profile = _read_profile(profile_uri)
    features = _chosen(profile["features"], columns, profile_uri)
    frame, uri = _frame(current, [*features], dataset_uri)
    tested = [_tested(name, frame[name], features[name]) for name in features]
    judged = _judged(tested)
    status = [feature.status for feature in judged if feature.status != "insufficient_data"]
    share = status.count("drifted") / len(status) if status else 0.0
    verdict: Verdict = "drifted" if share >= max_share else "stable"
    return DriftReport(
        dataset_uri=uri,
        profile_uri=profile_uri,
        verdict=verdict if status else "insufficient_data",
        share_drifted=share,
        n_reference=int(profile["n"]),
        n_current=len(frame),
        features=judged,
    )


def psi(reference: Counts, current: Counts) -> NDArray[np.float64]:
    """Return the population stability index over the last axis, half a row added to each bin."""
    p, q = (
        (counts + 0.5) / (counts.sum(-1, keepdims=True) + 0.5 * counts.shape[-1])
        for counts in (reference, current)
    )
    index: NDArray[np.float64] = ((q - p) * np.log(q / p)).sum(-1)
    return index


def _tested(name: str, values: pd.Series[Any], profile: Mapping[str, Any]) -> FeatureDrift:
    """Measure one feature; ``drifted`` here means only that it may be."""
    reference = np.array(profile["counts"], dtype=np.int64)
    current = _counts(values, profile)
    n_reference, n_current = int(reference.sum()), int(current.sum())
    enough = max(_MIN_ROWS, _MIN_ROWS_A_BIN * len(reference))
    # an empty side has no null rate
    rates = [counts[-1] / max(1, counts.sum()) for counts in (reference, current)]
    delta = float(rates[1] - rates[0])
    if min(n_reference, n_current) < enough:
        return FeatureDrift(
            feature=name,
            status="insufficient_data",
            psi=None,
            threshold=None,
            p_value=None,
            null_rate_delta=delta,
        )
    effect = float(psi(reference, current))
    null = _null(reference, n_current)
    threshold = max(MIN_PSI, float(np.quantile(null, _NULL_QUANTILE)))
    return FeatureDrift(
        feature=name,
        status="drifted" if effect >= threshold else "stable",
        psi=effect,
        threshold=threshold,
        p_value=float((1 + (null >= effect).sum()) / (1 + len(null))),
        null_rate_delta=delta,
    )


def _null(reference: Counts, n_current: int) -> NDArray[np.float64]:
    """Return PSIs between samples of our sizes when nothing drifted, shape (9999,)."""
    rng = np.random.default_rng(_SEED)
    p = (reference + 0.5) / (reference + 0.5).sum()
    draws = [rng.multinomial(n, p, _DRAWS) for n in (int(reference.sum()), n_current)]
    return psi(*draws)


def _judged(features: list[FeatureDrift]) -> list[FeatureDrift]:
    """Replace each p-value by its Benjamini-Hochberg adjustment, and let it have its say."""
    tested = [feature for feature in features if feature.p_value is not None]
    p_values = [feature.p_value for feature in tested]
    adjusted = false_discovery_control(p_values) if tested else []
    by_name = {feature.feature: float(p) for feature, p in zip(tested, adjusted, strict=True)}
    return [_with_p_value(feature, by_name.get(feature.feature)) for feature in features]


def _with_p_value(feature: FeatureDrift, p_value: float | None) -> FeatureDrift:
    if p_value is None:
        return feature
    drifted = feature.status == "drifted" and p_value < SIGNIFICANCE
    return FeatureDrift(
        feature=feature.feature,
        status="drifted" if drifted else "stable",
        psi=feature.psi,
        threshold=feature.threshold,
        p_value=p_value,
        null_rate_delta=feature.null_rate_delta,
    )


def _feature_profile(values: pd.Series[Any]) -> dict[str, Any]:
    kind = _kind(values)
    if kind is None:
        raise DataError(
            f"Column {values.name!r} has type {values.dtype}, and only numbers, booleans and texts "
            "have a drift profile. Leave it out of columns."
        )
    parts = _edges(values) if kind == "numeric" else _levels(values)
    profile: dict[str, Any] = {"kind": kind, "bins": list(parts)}
    return {**profile, "counts": _counts(values, profile).tolist()}


def _edges(values: pd.Series[Any]) -> Iterator[float]:
    """Cut at the deciles; equal ones are one, so a value that is common has a bin of its own."""
    known = _numbers(values)
    known = known[np.isfinite(known)]
    if len(known):
        yield from np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS)).tolist()


def _levels(values: pd.Series[Any]) -> Iterator[str]:
    counts = values.dropna().astype(str).value_counts()
    # ties by name, so that the order of the rows does not matter
    yield from sorted(counts.index, key=lambda level: (-counts[level], level))[:_LEVELS]


def _counts(values: pd.Series[Any], profile: Mapping[str, Any]) -> Counts:
    """Return rows a bin; the last two are the rest (numeric: above all edges) and the missing."""
    bins = profile["bins"]
    if profile["kind"] == "numeric":
        numbers = _numbers(values)
        missing = np.isnan(numbers)
        places = np.searchsorted(np.array(bins, dtype=float), numbers[~missing], side="left")
    else:
        missing = values.isna().to_numpy()
        order = {level: place for place, level in enumerate(bins)}
        texts = values[~missing].astype(str)
        places = texts.map(order).fillna(len(bins)).to_numpy(dtype=np.int64)
    return np.append(np.bincount(places, minlength=len(bins) + 1), missing.sum())


def _numbers(values: pd.Series[Any]) -> NDArray[np.float64]:
    """Return floats; what is no number counts as missing."""
    return pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def _kind(values: pd.Series[Any]) -> Literal["numeric", "categorical"] | None:
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind in ("string", "boolean", "categorical", "empty"):
        return "categorical"
    return "numeric" if pd.api.types.is_numeric_dtype(values) else None


def _read_profile(uri: str) -> Mapping[str, Any]:
    try:
        profile = read_json(uri)
    except FileNotFoundError as error:
        raise DataError(
            f"No drift profile at {uri}. Run the task that profiles the training data again."
        ) from error
    except ValueError as error:
        raise DataError(f"{uri} is no drift profile: {error}. Profile the data again.") from error
    if not isinstance(profile, dict) or not {"n", "features"} <= profile.keys():
        raise DataError(f"{uri} is no drift profile. Name what ProfileDatasetOperator gave.")
    return profile


def _chosen(
    features: Mapping[str, Any], columns: Sequence[str] | None, uri: str
) -> Mapping[str, Any]:
    unknown = sorted(set(columns or ()) - set(features))
    if unknown:
        raise DataError(
            f"The profile {uri} has no features {unknown}; it has {[*features]}. "
            "Correct `columns`, or profile the data again."
        )
    return {name: features[name] for name in columns} if columns else features


def _frame(
    current: DatasetRef | pd.DataFrame, features: list[str], uri: str | None
) -> tuple[pd.DataFrame, str]:
    if isinstance(current, DatasetRef):
        return read_dataset(current, features), current.uri
    missing = [name for name in features if name not in current]
    if missing:
        raise DataError(f"The frame has no column {missing}, which the profile is about.")
    return current, uri or "frame"
