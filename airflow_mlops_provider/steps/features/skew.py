"""Whether serving sees the features that training sees: compare both paths value by value.

What training sees is Feast's point-in-time join. What serving sees is the online store now, or
what the prediction log says that a model was really given.

Feast applies a view's TTL in the join only: an online store serves a value however old it is.
Such a row is null in training and a value in serving, which a model notices, so it counts as a
difference; ``n_expired`` tells these rows apart and ``count_expired=False`` leaves them out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import FeatureSkewReport
from airflow_mlops_provider.steps.features.asked import Asked, asked_features
from airflow_mlops_provider.steps.features.historical import historical_features
from airflow_mlops_provider.steps.features.tally import Pair, Tally, as_logged
from airflow_mlops_provider.steps.pages import render_page
from airflow_mlops_provider.steps.prediction_log import (
    INPUT,
    answered,
    as_utc,
    without_shadows,
)
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.steps.snapshot import read_table, write_table

if TYPE_CHECKING:
    from feast import FeatureStore

    from airflow_mlops_provider.records import DatasetRef, PredictionBatchRef

TOLERANCE = 1e-6
"""Relative; a Float32 keeps seven digits."""
_TIME = "event_timestamp"
_ENTITY_ID = "entity_id"
_LOG_COLUMNS = ["request_id", "row", "ts", "attempt", "status", "shadow"]
_ROWS_AT_ONCE = 1000
_KEPT = 100


def compare_online(
    store: FeatureStore,
    entities: DatasetRef,
    *,
    at: str | datetime,
    feature_service: str | None = None,
    features: Sequence[str] | None = None,
    tolerance: float = TOLERANCE,
    max_share: float = 0.0,
    count_expired: bool = True,
) -> FeatureSkewReport:
    """Compare what the online store serves with the point-in-time join at one moment.

    A value whose event is newer than ``at`` cannot be compared and is counted by itself, so let
    ``at`` be the end of the window that was materialized last.

    Args:
        store: The feature store, applied and materialized.
        entities: Rows with the join keys, and what on-demand views request; other columns,
            repeated rows and rows without a key are ignored.
        at: The moment to look from, ISO 8601; a naive time is UTC.
        feature_service: Which features; or
        features: their references (``view:feature``).
        tolerance: Relative difference up to which floats are the same.
        max_share: Share of rows from which on a feature is skewed, if exceeded.
        count_expired: Whether values beyond their TTL, null in training, are differences.

    Raises:
        DataError: a column, view, service or source file is missing.
        ParameterError: ``at`` is no time, or not exactly one of ``feature_service`` and
            ``features`` is given.
    """
    moment = _moment(at)
    asked = _asked(store, feature_service, features)
    keys = [*asked.keys]
    rows = read_table(entities, keys).drop_null()
    rows = rows.group_by(keys, use_threads=False).aggregate([])
    known = _known_at(store, asked, _with_time(rows, moment), entities.uri)
    tallies: dict[str, Tally] = {}
    for part in _parts(known):
        entity_rows = part.select(keys).to_pylist()
        served = _served(store, asked, entity_rows)
        # the join also gives what only feeds an on-demand view
        for name in (name for name in part.column_names if name in served and name not in keys):
            tally = tallies.setdefault(name, _tally(asked, name, tolerance, count_expired))
            ages = served.get(f"{name}__ts") or [0] * len(entity_rows)
            sides = zip(entity_rows, part[name].to_pylist(), served[name], ages, strict=True)
            for entity, offline, online, seconds in sides:
                if seconds > moment.timestamp():
                    tally.n_newer += 1
                    continue
                expired = _expired(asked.ttl.get(name), seconds, moment)
                tally.add(Pair(entity, moment, offline, online, expired))
    return _report("online", entities.uri, tallies, (tolerance, max_share), n_rows=known.num_rows)


def compare_logged(
    store: FeatureStore,
    predictions: PredictionBatchRef,
    *,
    feature_service: str | None = None,
    features: Sequence[str] | None = None,
    keys: Mapping[str, str] | None = None,
    tolerance: float = TOLERANCE,
    max_share: float = 0.0,
) -> FeatureSkewReport:
    """Compare the inputs that models were given with the join at each prediction's time.

    Only answered predictions are looked at, by their last attempt, and no shadows. A feature is
    compared if the log has an input of its name.

    Args:
        store: The feature store, applied.
        predictions: The compacted prediction log.
        feature_service: Which features; or
        features: their references (``view:feature``).
        keys: Join key to the column of the log that holds it. By default ``input.<key>``, or
            ``entity_id`` for a single join key that is no input.
        tolerance: Relative difference up to which floats are the same.
        max_share: Share of rows from which on a feature is skewed, if exceeded.

    Raises:
        DataError: the log has no column for a join key, or none for any feature.
        ParameterError: not exactly one of ``feature_service`` and ``features`` is given.
    """
    asked = _asked(store, feature_service, features)
    rows, inputs, left_out = _answered(predictions.uri, asked, keys or {})
    limits = tolerance, max_share
    if not rows.num_rows:
        return _report("logged", predictions.uri, {}, limits, n_rows=0, n_left_out=left_out)
    known = _known_at(store, asked, rows, predictions.uri)
    wanted = [name for name in known.column_names if name not in rows.column_names]
    logged = [name for name in wanted if INPUT + name in inputs.column_names]
    if not logged:
        raise DataError(
            f"{predictions.uri} has no input of any of the features {wanted}. Expected columns "
            f"such as {INPUT + wanted[0]!r}: compare the features that the model takes as inputs."
        )
    tallies = {name: _tally(asked, name, tolerance) for name in logged}
    for part, given in zip(_parts(known), _parts(inputs), strict=True):
        entity_rows = part.select([*asked.keys]).to_pylist()
        for name, tally in tallies.items():
            columns = part[_TIME], part[name], given[INPUT + name]
            sides = zip(entity_rows, *(column.to_pylist() for column in columns), strict=True)
            for entity, at, offline, online in sides:
                tally.add(Pair(entity, as_utc(at), offline, as_logged(online, offline)))
    return _report(
        "logged",
        predictions.uri,
        tallies,
        limits,
        n_rows=known.num_rows,
        n_left_out=left_out,
        not_logged=sorted(set(wanted) - set(logged))[:_KEPT],
    )


def skew_page(report: FeatureSkewReport) -> str:
    """Return the report as an HTML page."""
    return render_page("feature_skew.html", report=report)


def _asked(
    store: FeatureStore, feature_service: str | None, features: Sequence[str] | None
) -> Asked:
    asked = asked_features(store, feature_service, features)
    if not asked.keys:
        raise DataError(
            "The features to compare have no join key, so there are no entities to look at. "
            "Compare features of views that have an entity."
        )
    return asked


def _known_at(store: FeatureStore, asked: Asked, rows: pa.Table, source: str) -> pa.Table:
    """Return the rows with the features as training would see them, in the same order."""
    with tempfile.TemporaryDirectory(prefix="mlops-skew-") as folder:
        ref = write_table(rows, "rows", folder, source)
        known = historical_features(store, ref, name="known", workspace=folder, **asked.named)
        return read_table(known)


def _served(store: FeatureStore, asked: Asked, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the online store gives, a list by feature, and ``{feature}__ts`` in seconds."""
    answer = store.get_online_features(features=asked.features, entity_rows=rows)
    return dict(answer.to_dict(include_event_timestamps=True))


def _answered(uri: str, asked: Asked, keys: Mapping[str, str]) -> tuple[pa.Table, pa.Table, int]:
    """Return keys and time of each answered prediction, its inputs, and how many are left out."""
    fs, path = url_to_fs(uri)
    with readable(path, "Parquet"), fs.open(path, "rb") as file:
        log = pq.read_table(file)
    columns = _key_columns(log, uri, asked, keys)
    live = answered(without_shadows(log.select(_LOG_COLUMNS).to_pandas()))
    served = log.take(pa.array(live.index.sort_values()))
    for column in columns.values():
        served = served.filter(pc.is_valid(served[column]))
    cast = {
        key: _cast(served[column], kind, uri, column)
        for (key, column), kind in zip(columns.items(), asked.keys.values(), strict=True)
    }
    inputs = served.select([name for name in log.column_names if name.startswith(INPUT)])
    rows = pa.table({**cast, _TIME: served["ts"]})
    return rows, inputs, log.num_rows - rows.num_rows


def _key_columns(log: pa.Table, uri: str, asked: Asked, keys: Mapping[str, str]) -> dict[str, str]:
    missing = [name for name in _LOG_COLUMNS if name not in log.column_names]
    found = {key: keys.get(key, INPUT + key) for key in asked.keys}
    unlogged = [key for key, column in found.items() if column not in log.column_names]
    if len(found) == len(unlogged) == 1 and not keys:
        found, unlogged = {unlogged[0]: _ENTITY_ID}, []
    if missing or unlogged:
        raise DataError(
            f"{uri} has no columns {missing + [found[key] for key in unlogged]}. A skew check of "
            f"logged features needs a compacted prediction log with a column for each join key "
            f"of {[*found]}: name it in keys. It has {log.column_names}."
        )
    return found


def _cast(column: pa.ChunkedArray, kind: pa.DataType, uri: str, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise DataError(
            f"Column {name!r} of {uri} is to be a join key of type {kind}, and has the type "
            f"{column.type}: {error}. Name another column in keys."
        ) from error


def _tally(asked: Asked, name: str, tolerance: float, count_expired: bool = True) -> Tally:
    return Tally(name, tolerance, count_expired, asked.until.get(name))


def _parts(table: pa.Table) -> Iterator[pa.Table]:
    return (table.slice(n, _ROWS_AT_ONCE) for n in range(0, table.num_rows, _ROWS_AT_ONCE))


def _expired(ttl: timedelta | None, seconds: float, at: datetime) -> bool:
    return ttl is not None and seconds > 0 and at.timestamp() - seconds > ttl.total_seconds()


def _with_time(rows: pa.Table, at: datetime) -> pa.Table:
    moments = pa.array([at] * rows.num_rows, pa.timestamp("us", tz="UTC"))
    return rows.append_column(_TIME, moments)


def _moment(at: str | datetime) -> datetime:
    try:
        return as_utc(at if isinstance(at, datetime) else datetime.fromisoformat(at))
    except (TypeError, ValueError) as error:
        raise ParameterError.of("at", "compare_online", "an ISO 8601 time", at) from error


def _report(
    mode: Literal["online", "logged"],
    uri: str,
    tallies: Mapping[str, Tally],
    limits: tuple[float, float],
    *,
    n_rows: int,
    n_left_out: int = 0,
    not_logged: Sequence[str] = (),
) -> FeatureSkewReport:
    tolerance, max_share = limits
    found = [tally.result(max_share) for tally in tallies.values()]
    found.sort(key=lambda each: (each.verdict == "skewed", each.share, each.n), reverse=True)
    skewed = [each.feature for each in found if each.verdict == "skewed"]
    compared = any(each.n for each in found)
    return FeatureSkewReport(
        mode=mode,
        source_uri=uri,
        verdict="skewed" if skewed else "same" if compared else "insufficient_data",
        n_rows=n_rows,
        n_left_out=n_left_out,
        n_features=len(found),
        skewed=skewed[:_KEPT],
        not_logged=list(not_logged),
        tolerance=tolerance,
        max_share=max_share,
        features=found[:_KEPT],
    )
