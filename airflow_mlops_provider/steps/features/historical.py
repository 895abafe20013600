"""Join rows to the features that were known at their time, and prove it on a sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
from feast import OnDemandFeatureView
from feast.feature_view import DUMMY_ENTITY_ID

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.features.leakage import TIME_COLUMN, require_known_then
from airflow_mlops_provider.steps.features.registry import feast_errors, require_sources
from airflow_mlops_provider.steps.snapshot import read_table, write_table

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore, FeatureView
    from feast.feature_view_projection import FeatureViewProjection

    from airflow_mlops_provider.records import DatasetRef
    from airflow_mlops_provider.steps.card import DataCard

_ROW = "__row"


@dataclass(frozen=True)
class AskedView:
    """A feature view of which features were asked for."""

    view: FeatureView
    keys: dict[str, str]
    """Join key of the view to the column of the entity rows."""
    features: tuple[str, ...]
    """Also those that only feed an on-demand view."""


def historical_features(
    store: FeatureStore,
    entities: DatasetRef,
    *,
    name: str,
    workspace: str,
    feature_service: str | None = None,
    features: Sequence[str] | None = None,
    check_rows: int = 200,
    card: DataCard | None = None,
) -> DatasetRef:
    """Add to each entity row the features as they were known at its ``event_timestamp``.

    Rows keep their order, and columns of the entities their type. A sample of rows is joined a
    second time, from the raw sources and without Feast; see :func:`require_known_then`.

    Args:
        store: The feature store, applied.
        entities: Rows with the join keys, ``event_timestamp`` and what on-demand views request.
        name: Name of the dataset that is written.
        workspace: fsspec URI of the workspace.
        feature_service: Which features; or
        features: their references (``view:feature``).
        check_rows: How many rows to check for leakage; 0 checks none.
        card: Is told what was joined.

    Raises:
        DataError: a column, view, service or source file is missing, or a feature is not what
            was known at the time of its row.
        ParameterError: not exactly one of ``feature_service`` and ``features`` is given.
    """
    if bool(feature_service) == bool(features):
        raise ParameterError(
            "historical_features needs exactly one of feature_service and features. Got "
            f"{feature_service!r} and {features!r} instead."
        )
    with feast_errors(store):
        store.registry.refresh(store.project)
        asked = (
            store.get_feature_service(feature_service) if feature_service else list(features or ())
        )
        views, requested = _asked_views(store, asked)
    keys = sorted({column for each in views for column in each.keys.values()} | requested)
    _require_columns(entities, [*keys, TIME_COLUMN])
    require_sources([each.view for each in views])
    table = read_table(entities)
    rows = table.select([*keys, TIME_COLUMN]).to_pandas()
    # the Dask store would drop rows of equal key and moment
    group = rows.groupby([*rows], dropna=False, sort=False).ngroup().rename(_ROW)
    distinct = rows.assign(**{_ROW: group}).drop_duplicates(_ROW)
    with feast_errors(store):
        joined = store.get_historical_features(entity_df=distinct, features=asked).to_arrow()
    places = _places(group, joined, entities)
    for column in joined.column_names:
        if column not in distinct:
            table = table.append_column(column, joined[column].take(places))
    require_known_then(store, views, table, n_rows=check_rows)
    return write_table(
        table,
        name,
        workspace,
        entities.uri,
        window_start=entities.window_start,
        window_end=entities.window_end,
        card=card,
    )


def _places(group: pd.Series[Any], joined: pa.Table, entities: DatasetRef) -> pa.Array:
    """Return each entity's row of ``joined``; null where the Dask store left it out for its age."""
    found = pd.Series(range(joined.num_rows), index=joined[_ROW].to_pandas(), dtype="Int64")
    if not found.index.is_unique:
        raise DataError(
            f"The join of {entities.uri} gave several rows for one entity: a source repeats an "
            "entity and moment. Remove the repeated rows."
        )
    return pa.array(group.map(found), type=pa.int64())


def _asked_views(
    store: FeatureStore, asked: FeatureService | list[str]
) -> tuple[list[AskedView], set[str]]:
    """Return the views to join, and the columns that on-demand views request of each row."""
    known: dict[str, Any] = {view.name: view for view in store.list_all_feature_views()}
    found: list[AskedView] = []
    requested: set[str] = set()
    for projection in _projections(known, asked):
        view = known[projection.name]
        if not isinstance(view, OnDemandFeatureView):
            found.append(_asked(view, projection))
            continue
        sources = view.source_feature_view_projections.values()
        found += [_asked(known[source.name], source) for source in sources]
        for request in view.source_request_sources.values():
            requested |= {field.name for field in request.schema}
    return found, requested


def _projections(
    known: dict[str, Any], asked: FeatureService | list[str]
) -> Iterable[FeatureViewProjection]:
    if not isinstance(asked, list):
        return [each for each in asked.feature_view_projections if each.name in known]
    by_view: dict[str, list[str]] = {}
    for reference in asked:
        view, _, feature = reference.partition(":")
        by_view.setdefault(view, []).append(feature)
    # what is unknown Feast names itself
    return [known[view][features].projection for view, features in by_view.items() if view in known]


def _asked(view: FeatureView, projection: FeatureViewProjection) -> AskedView:
    renamed = projection.join_key_map or {}
    keys = {key: renamed.get(key, key) for key in view.join_keys if key != DUMMY_ENTITY_ID}
    return AskedView(view, keys, tuple(one.name for one in projection.features))


def _require_columns(entities: DatasetRef, columns: list[str]) -> None:
    missing = [column for column in columns if column not in entities.columns]
    if missing:
        raise DataError(
            f"{entities.uri} has no column {missing}; entities need their join keys, the moment "
            f"to look from and what on-demand views request, {columns}. It has "
            f"{[*entities.columns]}."
        )
