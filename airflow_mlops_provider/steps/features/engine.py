"""A compute engine for Feast that streams: ``feast materialize`` in bounded memory, and faster.

Feast's local engine reads all rows of the window, turns them into pandas, and converts value by
value. This one

1. lets DuckDB find the newest row of each entity, and reads these in batches,
2. encodes them column by column (``encoding``), and
3. writes them many at a time (``writers``).

Of views with a push or stream source it takes the rows of the batch source. What it does not know
(transformations, aggregations, ``StreamFeatureView``, views without entities or with an offline
copy) it leaves to Feast's local engine, which writes through a ``GuardedStore``.
``feature_store.yaml`` names it::

    batch_engine:
      type: airflow_mlops_provider.steps.features.engine.StreamingComputeEngine

It leaves in the online store and registry what Feast would, but for these points:

- A row never replaces a newer one, so that windows may come in any order.
- Of rows that tie in event and created timestamp the first in the source counts, where Feast's
  choice is arbitrary.
- In SQLite and Redis whole numbers keep all digits beside nulls, where Feast rounds them to 53
  bits, and empty bytes stay a value, where Feast makes them null.
- A missing created timestamp is a null, where Feast fails. A missing join key is a ``DataError``
  that names it. A narrower number than the view declares is taken as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import ibis
from feast import FeatureView
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine, LocalComputeEngineConfig
from feast.infra.compute_engines.local.feature_builder import LocalFeatureBuilder
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore

from airflow_mlops_provider.steps.features.encoding import without_key
from airflow_mlops_provider.steps.features.writers import GuardedStore, writer_for

if TYPE_CHECKING:
    import pyarrow as pa
    from feast.infra.common.retrieval_task import HistoricalRetrievalTask
    from feast.infra.compute_engines.dag.context import ColumnInfo, ExecutionContext
    from feast.infra.registry.base_registry import BaseRegistry
    from ibis.backends.duckdb import Backend
    from ibis.expr.types import Table

_log = logging.getLogger(__name__)

VALUES_AT_ONCE = 2_000_000
"""Feature values of a batch: 16 MB of numbers."""


class StreamingComputeEngineConfig(LocalComputeEngineConfig):
    """Options of the engine: those of Feast's local engine, for what is left to it."""

    type: Literal["airflow_mlops_provider.steps.features.engine.StreamingComputeEngine"] = (
        "airflow_mlops_provider.steps.features.engine.StreamingComputeEngine"  # type: ignore[assignment]
    )


class StreamingComputeEngine(LocalComputeEngine):
    """Feast's local engine, whose materialization streams."""

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        view = task.feature_view
        columns = self._columns(registry, task) if _is_plain(view) else None
        if columns is None or not columns.join_keys:
            return super()._materialize_one(registry, task, **kwargs)
        name = f"{view.name}-{task.start_time}-{task.end_time}"
        try:
            writer = writer_for(self.online_store, self.repo_config, view)
            n_rows = 0
            for batch in self._newest(task, columns):
                writer.write(batch)
                n_rows += batch.num_rows
        except Exception as error:  # noqa: BLE001 - Feast raises the error of a failed job
            return LocalMaterializationJob(name, MaterializationJobStatus.ERROR, error)
        _log.info(
            "%d entities of %r have rows in %s to %s",
            n_rows,
            view.name,
            task.start_time,
            task.end_time,
        )
        return LocalMaterializationJob(name, MaterializationJobStatus.SUCCEEDED)

    def get_execution_context(
        self, registry: BaseRegistry, task: MaterializationTask | HistoricalRetrievalTask
    ) -> ExecutionContext:
        """Return what Feast's engine works with: here, an online store that keeps newer rows."""
        context = super().get_execution_context(registry, task)
        context.online_store = GuardedStore(self.online_store)  # type: ignore[assignment]
        return context

    def _columns(self, registry: BaseRegistry, task: MaterializationTask) -> ColumnInfo:
        """Return the columns of the batch source; Feast would map those of a stream source."""
        backend = self._get_backend(self.get_execution_context(registry, task))
        columns = LocalFeatureBuilder(registry, task, backend).get_column_info(task.feature_view)
        source = task.feature_view.batch_source
        return replace(columns, field_mapping=source.field_mapping if source else None)

    def _newest(self, task: MaterializationTask, columns: ColumnInfo) -> Iterator[pa.RecordBatch]:
        """Give the newest row of each entity in the window, under the names of the view."""
        size = max(1, VALUES_AT_ONCE // max(1, len(columns.feature_cols)))
        query: dict[str, Any] = {
            "config": self.repo_config,
            "data_source": task.feature_view.batch_source,
            "join_key_columns": columns.join_keys,
            "feature_name_columns": columns.feature_cols,
            "timestamp_field": columns.ts_col,
            "created_timestamp_column": columns.created_ts_col,
            "start_date": task.start_time,
            "end_date": task.end_time,
        }
        if isinstance(self.offline_store, DuckDBOfflineStore):
            window: Any = self.offline_store.pull_all_from_table_or_query(**query)
            batches = _newest_in_duckdb(task.feature_view, window.table, columns, size)
        else:
            job = self.offline_store.pull_latest_from_table_or_query(**query)
            batches = job.to_arrow().to_batches(max_chunksize=size)
        renamed = columns.field_mapping or {}
        for batch in batches:
            names = [renamed.get(name, name) for name in batch.schema.names]
            yield batch.rename_columns(names)


def _is_plain(view: Any) -> bool:
    """Tell whether the rows of a view go online as they are."""
    return (
        type(view) is FeatureView
        and view.online
        and not view.offline
        and not view.enable_validation
        and view.data_source is not None
        and view.batch_source is not None
        and not getattr(view, "aggregations", None)
        and not getattr(view, "feature_transformation", None)
    )


def _newest_in_duckdb(
    view: FeatureView, window: Table, columns: ColumnInfo, size: int
) -> Iterator[pa.RecordBatch]:
    """Find the newest times first, so that DuckDB holds one row of each entity and no window.

    Its own ``row_number() = 1`` does so only for one sort key, and ``arg_max`` of rows never.
    """
    backend: Backend = window.get_backend()
    keys, time = columns.join_keys, columns.ts_col
    with _without_prefetching(backend.con):
        name = ibis.util.gen_name("newest")
        newest = backend.create_table(
            name, window.group_by(keys).agg(**{time: window[time].max()}), temp=True
        )
        try:
            for key in keys:
                if newest.filter(newest[key].isnull()).count().to_pyarrow().as_py():
                    raise without_key(view, (columns.field_mapping or {}).get(key, key))
            placed = window.mutate(**{_PLACE: ibis.row_number()})
            same = [placed[key].identical_to(newest[key]) for key in keys]
            last = placed.semi_join(newest, [*same, placed[time] == newest[time]])
            order = [ibis.desc(last[columns.created_ts_col])] if columns.created_ts_col else []
            rank = ibis.row_number().over(group_by=keys, order_by=[*order, last[_PLACE]])
            chosen = last.mutate(**{_RANK: rank}).filter(ibis._[_RANK] == 0).drop(_PLACE, _RANK)
            # ibis 12 reads batches by a method that DuckDB 2 no longer has
            yield from backend.con.sql(str(ibis.to_sql(chosen))).to_arrow_reader(size)
        finally:
            backend.con.execute(f'DROP TABLE IF EXISTS "{name}"')  # ibis words it wrongly


_PLACE, _RANK = "__place", "__rank"


@contextmanager
def _without_prefetching(connection: Any) -> Iterator[None]:
    """Keep DuckDB from reading whole row groups of Parquet ahead, which may be large."""
    setting = "disable_parquet_prefetching"
    before = connection.execute(f"SELECT current_setting('{setting}')").fetchone()[0]
    connection.execute(f"SET {setting} = true")
    try:
        yield
    finally:
        connection.execute(f"SET {setting} = {str(before).lower()}")
