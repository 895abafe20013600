"""Whether joined features were known at the time of their row: a second join, without Feast.

Offline stores do not tell of which moment the values are that they joined. So a sample of the
rows is joined again from the raw sources (the newest row of the same entity that is not newer
than the moment, nor older than the view's TTL), and every value has to be the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore

from airflow_mlops_provider.exceptions import DataError

if TYPE_CHECKING:
    from feast import FeatureStore
    from ibis.expr.types import Table

    from airflow_mlops_provider.steps.features.asked import AskedView

TIME_COLUMN = "event_timestamp"
_ROW, _KNOWN, _RAW = "__row", "__known", "__raw_"
_MOMENT = pa.timestamp("us", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
    moments = sample[TIME_COLUMN].cast(_MOMENT, safe=False)
    numbered = sample.select([*keys, *asked.features]).append_column(TIME_COLUMN, moments)
    numbered = numbered.append_column(_ROW, pa.array(range(sample.num_rows)))
    rows = numbered.to_pandas()
    with _raw_rows(store, asked, rows[TIME_COLUMN]) as raw:
        entities = numbered.select([*keys, TIME_COLUMN, _ROW])
        newest = _newest(raw, entities, _ttl(asked.view))
        for feature in asked.features:
            expected = rows[[_ROW, feature]].merge(
                newest[[_ROW, _KNOWN, _raw(feature)]], on=_ROW, how="left"
            )
            fits = _same(expected[feature], expected[_raw(feature)])
            fitting = fits.groupby(expected[_ROW]).any()
            if not fitting.all():
                place = fitting.index[~fitting][0]
                wrong = expected[expected[_ROW] == place].iloc[0]
                later = _later(raw, entities.slice(place, 1))
                raise DataError(_wording(asked, feature, rows.iloc[place], wrong, later))


@contextmanager
def _raw_rows(store: FeatureStore, asked: AskedView, moments: pd.Series[Any]) -> Iterator[Table]:
    """Give what may matter of the source, under the names of the entity rows.

    DuckDB reads it bit by bit as it is asked; other stores give it as a whole, as they do when
    they join.
    """
    view: Any = asked.view
    source = view.batch_source
    raw_name = {new: old for old, new in (source.field_mapping or {}).items()}
    ttl = _ttl(view)
    job: Any = store.provider.offline_store.pull_all_from_table_or_query(
        config=store.config,
        data_source=source,
        join_key_columns=[raw_name.get(key, key) for key in asked.keys],
        feature_name_columns=[raw_name.get(one, one) for one in asked.features],
        timestamp_field=source.timestamp_field,
        start_date=(moments.min() - ttl).to_pydatetime() if ttl else _EPOCH,
        end_date=(moments.max() + _BEYOND).to_pydatetime(),
    )
    names = {column: raw_name.get(key, key) for key, column in asked.keys.items()}
    names |= {_raw(one): raw_name.get(one, one) for one in asked.features}
    if isinstance(store.provider.offline_store, DuckDBOfflineStore):
        yield _renamed(job.table, names, source.timestamp_field)
        return
    with _registered(ibis.duckdb.connect(), _in_microseconds(job.to_arrow())) as whole:
        yield _renamed(whole, names, source.timestamp_field)


def _renamed(raw: Table, names: dict[str, str], time: str) -> Table:
    known = raw[time]
    if not getattr(known.type(), "timezone", None):
        known = known.cast("timestamp")
    return raw.select(**{new: raw[old] for new, old in names.items()}, **{_KNOWN: known})


def _in_microseconds(table: pa.Table) -> pa.Table:
    """Cast nanoseconds, which DuckDB does not compare with anything."""
    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            kind = pa.timestamp("us", field.type.tz)
            table = table.set_column(at, field.name, table[field.name].cast(kind, safe=False))
    return table


def _newest(raw: Table, entities: pa.Table, ttl: timedelta | None) -> pd.DataFrame:
    """Return for each row the raw rows of its entity that are the newest it could know.

    There are several if the source repeats a moment. Of the source, no more is held at a time.
    """
    with _asked_of(raw, entities) as asked:
        known = asked[TIME_COLUMN] >= raw[_KNOWN]
        young = raw[_KNOWN] >= asked[TIME_COLUMN] - ttl if ttl else ibis.literal(True)
        pairs = _pairs(asked, raw, [known, young])
        last = pairs.group_by(_ROW).agg(**{_KNOWN: pairs[_KNOWN].max()})
        return _computed(pairs.semi_join(last, [_ROW, _KNOWN]))


def _later(raw: Table, entities: pa.Table) -> pd.DataFrame:
    """Return the raw rows of the entity that are newer than its row, by a day at most."""
    with _asked_of(raw, entities) as asked:
        later = raw[_KNOWN] > asked[TIME_COLUMN]
        soon = raw[_KNOWN] <= asked[TIME_COLUMN] + _BEYOND
        return _computed(_pairs(asked, raw, [later, soon]))


@contextmanager
def _registered(backend: Any, table: pa.Table) -> Iterator[Table]:
    """Let DuckDB read an Arrow table; ibis 12 does it in words that DuckDB 2 no longer knows."""
    name = ibis.util.gen_name("rows")
    backend.con.register(name, table)
    try:
        yield backend.table(name)
    finally:
        backend.con.unregister(name)


@contextmanager
def _asked_of(raw: Table, entities: pa.Table) -> Iterator[Table]:
    """Bring the entities to where the source is read; nobody is looked for by a null."""
    if raw[_KNOWN].type().timezone is None:  # DuckDB would take naive times for local ones
        at = entities.schema.get_field_index(TIME_COLUMN)
        naive = entities[TIME_COLUMN].cast(pa.timestamp("us"))
        entities = entities.set_column(at, TIME_COLUMN, naive)
    with _registered(raw.get_backend(), entities.drop_null()) as asked:
        yield asked


def _pairs(asked: Table, raw: Table, conditions: list[Any]) -> Table:
    keys = [name for name in asked.columns if name not in (TIME_COLUMN, _ROW)]
    same = [asked[key] == raw[key] for key in keys]
    pairs = asked.join(raw, [*same, *conditions])
    return pairs.select(_ROW, _KNOWN, *(name for name in raw.columns if name.startswith(_RAW)))


def _computed(table: Table) -> pd.DataFrame:
    backend: Any = table.get_backend()
    # ibis 12 fetches rows by a method that DuckDB 2 is about to drop
    found: pd.DataFrame = backend.con.sql(str(ibis.to_sql(table))).to_arrow_table().to_pandas()
    return found.assign(**{_KNOWN: _utc(found[_KNOWN])})


def _wording(
    asked: AskedView,
    feature: str,
    row: pd.Series[Any],
    wrong: pd.Series[Any],
    later: pd.DataFrame,
) -> str:
    entity = ", ".join(f"{key}={row[key]!r}" for key in asked.keys.values())
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


def _ttl(view: Any) -> timedelta | None:
    return view.ttl or None


def _raw(feature: str) -> str:
    return _RAW + feature
