"""Whether joined features were known at the time of their row: a second join, without Feast.

Offline stores do not tell of which moment the values are that they joined. So a sample of the
rows is joined again from the raw sources (the newest row of the same entity that is not newer
than the moment, nor older than the view's TTL), and every value has to be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from airflow_mlops_provider.exceptions import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureStore

    from airflow_mlops_provider.steps.features.historical import AskedView

TIME_COLUMN = "event_timestamp"
_ROW, _KNOWN = "__row", "__known"
_BEYOND = timedelta(days=1)
"""How much of the future is read, so that a leaked value can be recognised."""


def require_known_then(
    store: FeatureStore, views: Sequence[AskedView], table: pa.Table, *, n_rows: int
) -> None:
    """Compare a sample of joined rows, evenly spread, with the raw sources.

    Values of on-demand views are computed from the others, and views that transform their
    source have no raw values to compare with: both are left out.

    Args:
        store: The feature store.
        views: What was joined.
        table: The join keys, ``event_timestamp`` and features.
        n_rows: Size of the sample; 0 checks nothing.

    Raises:
        DataError: a feature is newer than its row, or otherwise not the newest known value;
            the message names feature, row and times.
    """
    if not n_rows:
        return
    places = np.unique(np.linspace(0, table.num_rows - 1, n_rows, dtype=int))
    sample = table.take(places)
    for asked in views:
        present = tuple(name for name in asked.features if name in table.column_names)
        if present and _is_raw(asked.view):
            _require_known_then(store, replace(asked, features=present), sample)


def _is_raw(view: Any) -> bool:
    transforms = getattr(view, "feature_transformation", None) or getattr(view, "udf", None)
    return view.batch_source is not None and not transforms and not view.source_views


def _require_known_then(store: FeatureStore, asked: AskedView, sample: pa.Table) -> None:
    keys = [*asked.keys.values()]
    rows = sample.select([*keys, TIME_COLUMN, *asked.features]).to_pandas()
    rows = rows.assign(**{_ROW: range(len(rows)), TIME_COLUMN: _utc(rows[TIME_COLUMN])})
    pairs = _pairs(store, asked, rows)
    age = pairs[TIME_COLUMN] - pairs[_KNOWN]
    known = pairs[(age >= pd.Timedelta(0)) & (age <= _ttl(asked.view))]
    newest = known[known[_KNOWN] == known.groupby(_ROW)[_KNOWN].transform("max")]
    for feature in asked.features:
        expected = rows[[_ROW, feature]].merge(
            newest[[_ROW, _KNOWN, _raw(feature)]], on=_ROW, how="left"
        )
        fits = _same(expected[feature], expected[_raw(feature)])
        fitting = fits.groupby(expected[_ROW]).any()
        if not fitting.all():
            place = fitting.index[~fitting][0]
            wrong = expected[expected[_ROW] == place].iloc[0]
            raise DataError(_wording(asked, feature, rows.iloc[place], wrong, pairs))


def _pairs(store: FeatureStore, asked: AskedView, rows: pd.DataFrame) -> pd.DataFrame:
    """Pair each row with all the raw rows of its entity."""
    view: Any = asked.view
    source = view.batch_source
    raw_name = {new: old for old, new in (source.field_mapping or {}).items()}
    ttl = _ttl(view)
    moments = rows[TIME_COLUMN]
    earliest = moments.min() - ttl if ttl < pd.Timedelta.max else pd.Timestamp(0, tz="UTC")
    job = store.provider.offline_store.pull_all_from_table_or_query(
        config=store.config,
        data_source=source,
        join_key_columns=[raw_name.get(key, key) for key in asked.keys],
        feature_name_columns=[raw_name.get(one, one) for one in asked.features],
        timestamp_field=source.timestamp_field,
        start_date=earliest.to_pydatetime(),
        end_date=(moments.max() + _BEYOND).to_pydatetime(),
    )
    raw = job.to_arrow().to_pandas()
    names = {raw_name.get(key, key): column for key, column in asked.keys.items()}
    names |= {raw_name.get(one, one): _raw(one) for one in asked.features}
    raw = raw.rename(columns={**names, source.timestamp_field: _KNOWN})
    raw[_KNOWN] = _utc(raw[_KNOWN])
    keys = [*asked.keys.values()]
    left = rows[[*keys, TIME_COLUMN, _ROW]].dropna(subset=keys)
    return left.merge(raw, on=keys) if keys else left.merge(raw, how="cross")


def _wording(
    asked: AskedView,
    feature: str,
    row: pd.Series[Any],
    wrong: pd.Series[Any],
    pairs: pd.DataFrame,
) -> str:
    entity = ", ".join(f"{key}={row[key]!r}" for key in asked.keys.values())
    later = pairs[(pairs[_ROW] == row[_ROW]) & (pairs[_KNOWN] > row[TIME_COLUMN])]
    leaked = later[_same(later[_raw(feature)], pd.Series(row[feature], index=later.index))]
    origin = f"; {row[feature]!r} is of {leaked[_KNOWN].min()}, newer than the row" * bool(
        len(leaked)
    )
    return (
        f"The feature {asked.view.name}:{feature} of the row ({entity}) at {row[TIME_COLUMN]} is "
        f"{row[feature]!r}, but the newest value known then is {wrong[_raw(feature)]!r} of "
        f"{wrong[_KNOWN]}{origin}. Let timestamps say when a value became known, and write no "
        "source while it is joined."
    )


def _same(one: pd.Series[Any], other: pd.Series[Any]) -> pd.Series[bool]:
    both_missing = one.isna() & other.isna()
    if pd.api.types.is_float_dtype(one) or pd.api.types.is_float_dtype(other):
        close = np.isclose(one.astype(float), other.astype(float), rtol=1e-6, atol=0)
        return both_missing | pd.Series(close, index=one.index)
    if pd.api.types.is_datetime64_any_dtype(one):
        one, other = _utc(one), _utc(other)
    return both_missing | (one == other)


def _utc(moments: pd.Series[Any]) -> pd.Series[Any]:
    return pd.to_datetime(moments, utc=True).astype("datetime64[us, UTC]")


def _ttl(view: Any) -> pd.Timedelta:
    return pd.Timedelta(view.ttl) if view.ttl else pd.Timedelta.max


def _raw(feature: str) -> str:
    return f"__raw_{feature}"
