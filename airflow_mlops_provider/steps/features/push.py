"""Push rows to the online and the offline store; doing it again changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from feast.data_source import PushMode

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.features.registry import feast_errors
from airflow_mlops_provider.steps.features.writers import GuardedStore
from airflow_mlops_provider.steps.snapshot import read_dataset

if TYPE_CHECKING:
    from feast import FeatureStore

    from airflow_mlops_provider.records import DatasetRef

_MODES = {mode.name.lower(): mode for mode in PushMode}


def push_features(
    store: FeatureStore, rows: DatasetRef, *, push_source: str, to: str = "online"
) -> int:
    """Push the rows of a dataset to all feature views of a ``PushSource``.

    The online store gets the newest row of each entity, where it holds none that is newer. The
    offline store gets the rows that it does not hold yet.

    Args:
        store: The feature store, applied.
        rows: Join keys, timestamp and features.
        push_source: Name of the ``PushSource``.
        to: ``online``, ``offline`` or ``online_and_offline``.

    Returns:
        The number of rows in the dataset.

    Raises:
        DataError: the store has no such source, or the rows do not fit its views.
        ParameterError: ``to`` is none of the three.
    """
    if to not in _MODES:
        raise ParameterError.of("to", "push_features", f"one of {sorted(_MODES)}", to)
    mode = _MODES[to]
    with feast_errors(store):
        store.registry.refresh(store.project)
        views = _views_of(store, push_source)
        frame = read_dataset(rows)
        for view in views:
            _require_columns(rows, view)
        if mode != PushMode.OFFLINE:
            newest = _newest(frame, views)
            _pushed(store, push_source, newest, PushMode.ONLINE)
        if mode != PushMode.ONLINE:
            new = _unknown(store, frame, views[0])
            if len(new):
                _pushed(store, push_source, new, PushMode.OFFLINE)
    return rows.n_rows


def _views_of(store: FeatureStore, push_source: str) -> list[Any]:
    views: list[Any] = [
        view
        for view in [*store.list_feature_views(), *store.list_stream_feature_views()]
        if view.stream_source is not None and view.stream_source.name == push_source
    ]
    if not views:
        sources = sorted(source.name for source in store.list_data_sources())
        raise DataError(
            f"No feature view of {store.project!r} has the push source {push_source!r}; its data "
            f"sources are {sources}. Correct the name, or apply the repository that defines it."
        )
    return views


def _require_columns(rows: DatasetRef, view: Any) -> None:
    wanted = [*_keys(view), *(feature.name for feature in view.features)]
    missing = [name for name in wanted if name not in rows.columns]
    if missing:
        raise DataError(
            f"{rows.uri} has no column {missing}, which the feature view {view.name!r} needs. It "
            f"has {[*rows.columns]}."
        )


def _keys(view: Any) -> list[str]:
    return [*view.join_keys, view.batch_source.timestamp_field]


def _newest(frame: pd.DataFrame, views: Sequence[Any]) -> pd.DataFrame:
    time = views[0].batch_source.timestamp_field
    keys = sorted({key for view in views for key in view.join_keys})
    ordered = frame.sort_values(time, kind="stable")
    return ordered.drop_duplicates(keys, keep="last")


def _unknown(store: FeatureStore, frame: pd.DataFrame, view: Any) -> pd.DataFrame:
    """Return the rows whose entity and moment the source does not hold."""
    source = view.batch_source
    time = source.timestamp_field
    moments = pd.to_datetime(frame[time], utc=True)
    held = store.provider.offline_store.pull_all_from_table_or_query(
        config=store.config,
        data_source=source,
        join_key_columns=view.join_keys,
        feature_name_columns=[],
        timestamp_field=time,
        start_date=moments.min().to_pydatetime(),
        end_date=moments.max().to_pydatetime(),
    )
    known = _identity(held.to_arrow().to_pandas(), view.join_keys, time)
    return frame[~_identity(frame, view.join_keys, time).isin(known)]


def _identity(frame: pd.DataFrame, keys: list[str], time: str) -> pd.MultiIndex:
    moments = pd.to_datetime(frame[time], utc=True).astype("datetime64[us, UTC]")
    return pd.MultiIndex.from_frame(frame[keys].assign(**{time: moments}))


def _pushed(store: FeatureStore, push_source: str, frame: pd.DataFrame, mode: Any) -> None:
    provider: Any = store.provider
    online = provider.online_store
    provider._online_store = GuardedStore(online)
    try:
        store.push(push_source, frame, allow_registry_cache=True, to=mode)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The rows cannot be pushed to {push_source!r}: {type(error).__name__}: {error}. Give "
            "them the columns and types of its batch source."
        ) from error
    finally:
        provider._online_store = online
