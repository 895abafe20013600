"""Join rows to the features that were known at their time, and prove it on a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.features.asked import asked_features
from airflow_mlops_provider.steps.features.leakage import TIME_COLUMN, require_known_then
from airflow_mlops_provider.steps.features.registry import feast_errors, require_sources
from airflow_mlops_provider.steps.snapshot import read_table, write_table

if TYPE_CHECKING:
    from feast import FeatureStore

    from airflow_mlops_provider.records import DatasetRef
    from airflow_mlops_provider.steps.card import DataCard

_ROW = "__row"


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
    asked = asked_features(store, feature_service, features)
    keys = sorted(asked.keys)
    _require_columns(entities, [*keys, TIME_COLUMN])
    require_sources([each.view for each in asked.views])
    table = read_table(entities)
    rows = table.select([*keys, TIME_COLUMN]).to_pandas()
    # the Dask store would drop rows of equal key and moment
    group = rows.groupby([*rows], dropna=False, sort=False).ngroup().rename(_ROW)
    distinct = rows.assign(**{_ROW: group}).drop_duplicates(_ROW)
    with feast_errors(store):
        job = store.get_historical_features(entity_df=distinct, features=asked.features)
        joined = job.to_arrow()
    places = _places(group, joined, entities)
    for column in joined.column_names:
        if column not in distinct:
            table = table.append_column(column, joined[column].take(places))
    require_known_then(store, asked.views, table, n_rows=check_rows)
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


def _require_columns(entities: DatasetRef, columns: list[str]) -> None:
    missing = [column for column in columns if column not in entities.columns]
    if missing:
        raise DataError(
            f"{entities.uri} has no column {missing}; entities need their join keys, the moment "
            f"to look from and what on-demand views request, {columns}. It has "
            f"{[*entities.columns]}."
        )
