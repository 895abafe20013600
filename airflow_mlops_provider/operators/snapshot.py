"""Freeze rows of a source as an immutable dataset of the workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlops_provider.assets import dataset_asset
from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.links import DataCardLink
from airflow_mlops_provider.operators.base import MlopsOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import DatasetRef
    from airflow_mlops_provider.steps.card import DataCard

CARD = "data_card.html"
_QUERY_LENGTH = 500


class SnapshotDatasetOperator(MlopsOperator):
    """Keep rows of files, a query, a table or a function as a dataset with a data card.

    Gives a ``DatasetRef``. Each ``AssetAlias`` among the outlets receives an event of
    ``mlops-dataset://{name}`` with the record as its extra. The card names the task's ``owner``
    as the owner of the data.

    Args:
        name: Name of the dataset; a folder of the workspace.
        source: Parquet or CSV files (a path, glob, folder or fsspec URI of these, or the ``.dvc``
            file that tracks some); or a function that returns a pandas frame or Arrow table, or
            yields several; or, with ``table_format``, a Delta table's URI or an Iceberg table's
            identifier.
        sql: Instead of ``source``: a query, or a ``.sql`` file with one, whose ``:name`` stands
            for a parameter.
        conn_id: Connection of the query; its hook has to be a ``DbApiHook``.
        parameters: Values of the query's parameters; they are bound, not pasted.
        table_format: ``delta`` or ``iceberg``, if ``source`` is such a table.
        version: Delta version or time, or Iceberg snapshot id; by default the newest.
        table_options: Storage options of Delta, or properties of the Iceberg catalog.
        time_column: Column that the window is about.
        window_start: First moment to keep, ISO 8601; empty is the beginning.
        window_end: First moment not to keep, ISO 8601; empty is the end. Without
            ``time_column`` the window only labels what a query or a function gave.
        columns: Columns to keep; by default all.
        op_kwargs: Keyword arguments of the function.
        license: License of the data, for the card.
        description: What the rows are, for the card.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "name",
        "source",
        "sql",
        "conn_id",
        "parameters",
        "table_format",
        "version",
        "table_options",
        "time_column",
        "window_start",
        "window_end",
        "columns",
        "op_kwargs",
        "license",
        "description",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "sql": "sql",
        "parameters": "json",
        "table_options": "json",
        "op_kwargs": "py",
    }
    operator_extra_links = (
        *MlopsOperator.operator_extra_links,
        DataCardLink(),
    )

    def __init__(
        self,
        *,
        name: str,
        source: Any = None,
        sql: str | None = None,
        conn_id: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        table_format: str | None = None,
        version: str | int | None = None,
        table_options: Mapping[str, Any] | None = None,
        time_column: str | None = None,
        window_start: str | None = None,
        window_end: str | None = None,
        columns: Sequence[str] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        license: str | None = None,
        description: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.source = source
        self.sql = sql
        self.conn_id = conn_id
        self.parameters = parameters
        self.table_format = table_format
        self.version = version
        self.table_options = table_options
        self.time_column = time_column
        self.window_start = window_start
        self.window_end = window_end
        self.columns = columns
        self.op_kwargs = op_kwargs
        self.license = license
        self.description = description

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the dataset to the workspace."""
        from airflow_mlops_provider.steps.card import DataCard

        with self.tracked_run(context) as run:
            card = DataCard(self.owner, self.license, self.description)
            dataset = self._taken(context, card)
            function = self.source if callable(self.source) else None
            run.log_page(card.html(dataset, how_taken(context, function)), CARD)
            self.link_artifact(context, run, DataCardLink.xcom_key, CARD)
            run.log_dataset(dataset, "snapshot")
            run.log_record(dataset)
        self.log.info("Kept %d rows of %s at %s", dataset.n_rows, dataset.source, dataset.uri)
        self.emit_asset(context, dataset_asset(self.name), dataset)
        return dataset.to_xcom()

    def rows(self, context: Context) -> Any:
        """Call the function."""
        return self.source(**(self.op_kwargs or {}))

    def _taken(self, context: Context, card: DataCard) -> DatasetRef:
        if bool(self.source) == bool(self.sql):
            raise ParameterError(
                "SnapshotDatasetOperator needs exactly one of source and sql. Got "
                f"{self.source!r} and {self.sql!r} instead."
            )
        if self.sql:
            return self._queried(card)
        if callable(self.source):
            return self._called(context, card)
        return self._read(card)

    def _read(self, card: DataCard) -> DatasetRef:
        from airflow_mlops_provider.steps.snapshot import snapshot_dataset, snapshot_table

        if not self.table_format:
            return snapshot_dataset(str(self.source), **self._target(card))
        return snapshot_table(
            str(self.source),
            self.table_format,
            version=self.version,
            table_options=self.table_options,
            **self._target(card),
        )

    def _called(self, context: Context, card: DataCard) -> DatasetRef:
        from airflow_mlops_provider.steps.snapshot import write_batches
        from airflow_mlops_provider.steps.tables import in_pieces

        source = _path_of(self.source)
        return write_batches(in_pieces(self.rows(context)), source=source, **self._target(card))

    def _queried(self, card: DataCard) -> DatasetRef:
        from airflow_mlops_provider.hooks.sql import stream_query
        from airflow_mlops_provider.steps.snapshot import write_batches

        if not self.conn_id:
            raise ParameterError.of("conn_id", type(self).__name__, "given with sql", self.conn_id)
        card.query, card.conn_id = str(self.sql), self.conn_id
        card.parameters = sorted(self.parameters or ())
        query = " ".join(str(self.sql).split())[:_QUERY_LENGTH]
        rows = stream_query(self.conn_id, str(self.sql), self.parameters)
        return write_batches(rows, source=f"{self.conn_id}: {query}", **self._target(card))

    def _target(self, card: DataCard) -> dict[str, Any]:
        return {
            "name": self.name,
            "workspace": self.workspace_uri,
            "time_column": self.time_column,
            "window_start": self.window_start,
            "window_end": self.window_end,
            "columns": self.columns,
            "card": card,
        }


def how_taken(context: Context, function: Any = None) -> dict[str, str]:
    """Return when and by what a dataset was taken, as its data card tells it."""
    ti = context["ti"]
    script = getattr(context.get("dag"), "relative_fileloc", "")
    return {
        "When": datetime.now(UTC).isoformat(timespec="seconds"),
        "DAG": ti.dag_id,
        "Run": ti.run_id,
        "Task": ti.task_id,
        "Try": str(ti.try_number),
        "Processing script": _path_of(function) if function else script,
    }


def _path_of(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"
