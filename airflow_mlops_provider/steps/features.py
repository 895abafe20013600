"""Feature views of a Feast repository: apply, materialize, and join to what was known when.

Feast's file registry loses commits of writers that overlap, and is cut short while it is
written, so whoever writes or reads it here holds a lock on ``{registry}.lock``. With the SQL
registry nobody waits.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
from feast import repo_operations
from feast.errors import FeastError
from feast.feature_view import FeatureViewState

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.snapshot import read_table, write_table
from airflow_mlops_provider.workspace import exists

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore, FeatureView

    from airflow_mlops_provider.records import DatasetRef

TIME_COLUMN = "event_timestamp"
_ROW = "__row"


def apply_features(store: FeatureStore, repo_path: str) -> list[str]:
    """Register what the Python files of a repository define; return the feature views' names.

    Views that are no longer defined are removed, as ``feast apply`` does.

    Raises:
        DataError: a file does not import, or a definition or its source is wrong.
    """
    repo_folder = Path(repo_path).resolve()
    with _inside(repo_folder):
        with _applying(repo_folder):
            repo = repo_operations._get_repo_contents(repo_folder, store.project, store.config)
        names = sorted(view.name for view in repo.feature_views)
        with _registry_lock(store):
            with _applying(repo_folder):
                repo_operations.apply_total_with_repo_instance(
                    store, store.project, store.registry, repo, skip_source_validation=False
                )
            _heal(store, names)
    return names


def materialize(
    store: FeatureStore,
    feature_views: Sequence[str] | None,
    start: str | datetime,
    end: str | datetime,
) -> list[str]:
    """Copy the newest features of ``[start, end]`` into the online store; return the views.

    Windows are explicit, because Feast's incremental mode misses rows that come late and stops
    after a date in the future. Doing a window twice leaves the online store as it was.

    Args:
        store: The feature store, applied.
        feature_views: Names; None means all views of the store.
        start: ISO 8601; a naive time is UTC.
        end: ISO 8601, later than ``start``.

    Raises:
        DataError: a view is unknown or its source cannot be read.
        ParameterError: ``end`` is not later than ``start``.
    """
    first, last = _moment("start", start), _moment("end", end)
    if first >= last:
        raise ParameterError.of("end", "materialize", f"later than start ({first})", str(last))
    with _registry_lock(store):
        names = _view_names(store, feature_views)
        _require_sources([store.get_feature_view(name) for name in names])
    for name in names:
        with _registry_lock(store), _feast_errors(store):
            _heal(store, [name])
            store.materialize(first, last, feature_views=[name])
    return names


def heal_views(store: FeatureStore, feature_views: Sequence[str] | None) -> list[str]:
    """Make views servable that a killed materialization left in state MATERIALIZING.

    Feast refuses to serve such a view until somebody materializes it again. What the online
    store holds is sound: rows are replaced one by one. Takes no lock, so that a process that
    is being killed while it holds the lock can still clean up.

    Returns:
        The names of the views that were healed.
    """
    return _heal(store, _view_names(store, feature_views))


def historical_features(
    store: FeatureStore,
    entities: DatasetRef,
    *,
    name: str,
    workspace: str,
    feature_service: str | None = None,
    features: Sequence[str] | None = None,
) -> DatasetRef:
    """Add to each entity row the features as they were known at its ``event_timestamp``.

    Rows keep their order, and columns of the entities their type.

    Args:
        store: The feature store, applied.
        entities: Rows with the join keys and ``event_timestamp``.
        name: Name of the dataset that is written.
        workspace: fsspec URI of the workspace.
        feature_service: Which features; or
        features: their references (``view:feature``).

    Raises:
        DataError: a column, view, service or source file is missing.
        ParameterError: not exactly one of ``feature_service`` and ``features`` is given.
    """
    if bool(feature_service) == bool(features):
        raise ParameterError(
            "historical_features needs exactly one of feature_service and features. Got "
            f"{feature_service!r} and {features!r} instead."
        )
    with _registry_lock(store), _feast_errors(store):
        asked = (
            store.get_feature_service(feature_service) if feature_service else list(features or ())
        )
        views = _asked_views(store, asked)
    keys = sorted({key for view in views for key in view.join_keys})
    _require_columns(entities, [*keys, TIME_COLUMN])
    _require_sources(views)
    table = read_table(entities)
    rows = table.select([*keys, TIME_COLUMN]).to_pandas()
    # the Dask store would drop rows of equal key and moment
    group = rows.groupby([*rows], dropna=False, sort=False).ngroup().rename(_ROW)
    distinct = rows.assign(**{_ROW: group}).drop_duplicates(_ROW)
    with _registry_lock(store), _feast_errors(store):
        joined = store.get_historical_features(entity_df=distinct, features=asked).to_arrow()
    places = _places(group, joined, entities)
    for column in joined.column_names:
        if column not in distinct:
            table = table.append_column(column, joined[column].take(places))
    return write_table(
        table,
        name,
        workspace,
        entities.uri,
        window_start=entities.window_start,
        window_end=entities.window_end,
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


def _asked_views(store: FeatureStore, asked: FeatureService | list[str]) -> list[FeatureView]:
    if isinstance(asked, list):
        names = {reference.partition(":")[0] for reference in asked}
    else:
        names = {projection.name for projection in asked.feature_view_projections}
    return [view for view in store.list_batch_feature_views() if view.name in names]


def _require_columns(entities: DatasetRef, columns: list[str]) -> None:
    missing = [column for column in columns if column not in entities.columns]
    if missing:
        raise DataError(
            f"{entities.uri} has no column {missing}; entities need their join keys and the moment "
            f"to look from, {columns}. It has {[*entities.columns]}."
        )


def _require_sources(views: Sequence[FeatureView]) -> None:
    """Name the file that is missing, where each offline store would fail in its own way."""
    for view in views:
        path = getattr(view.batch_source, "path", None)
        if path and not exists(path):
            raise DataError(
                f"The feature view {view.name!r} reads {path}, which does not exist. Write it "
                "before its features are used."
            )


def _view_names(store: FeatureStore, feature_views: Sequence[str] | None) -> list[str]:
    known = sorted(view.name for view in store.list_batch_feature_views())
    unknown = sorted(set(feature_views or ()) - set(known))
    if unknown:
        raise DataError(
            f"The feature store {store.project!r} has no feature views {unknown}; it has {known}. "
            "Apply the repository that defines them."
        )
    return list(feature_views) if feature_views else known


def _heal(store: FeatureStore, names: Sequence[str]) -> list[str]:
    store.registry.refresh(store.project)
    healed = []
    for name in names:
        view = store.get_feature_view(name)
        if view.state == FeatureViewState.MATERIALIZING:
            served = bool(view.materialization_intervals)
            state = FeatureViewState.AVAILABLE_ONLINE if served else FeatureViewState.GENERATED
            store.set_feature_view_state(name, state)
            healed.append(name)
    return healed


def _moment(name: str, value: str | datetime) -> datetime:
    try:
        moment = pd.Timestamp(value)
    except ValueError as error:
        raise ParameterError.of(name, "materialize", "an ISO 8601 time", value) from error
    aware = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
    return aware.to_pydatetime()


@contextmanager
def _applying(repo_folder: Path) -> Iterator[None]:
    """Word whatever the code of a repository, or Feast as it reads it, may raise."""
    try:
        yield
    except Exception as error:
        raise DataError(
            f"The Feast repository {repo_folder} cannot be applied: {type(error).__name__}: "
            f"{error}. Correct the definition, or write the file it reads."
        ) from error


@contextmanager
def _feast_errors(store: FeatureStore) -> Iterator[None]:
    """Word what is wrong with a definition or its source; anything else passes."""
    try:
        yield
    except FeastError as error:
        raise DataError(
            f"Feast cannot use the feature store {store.project!r}: {type(error).__name__}: "
            f"{error}. Correct the name, or apply the repository that defines it."
        ) from error


@contextmanager
def _registry_lock(store: FeatureStore) -> Iterator[None]:
    config = store.config.registry
    if config.registry_type != "file" or "://" in config.path:
        yield
        return
    path = Path(store.repo_path, config.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        store.registry.refresh(store.project)
        yield


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in ``folder``, as Feast must to import its files; forget these modules afterwards."""
    before, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if _lies_in(sys.modules[name], folder):
                del sys.modules[name]


def _lies_in(module: Any, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)
