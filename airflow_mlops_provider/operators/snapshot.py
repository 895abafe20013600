"""Freeze rows of a source as an immutable dataset of the workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.assets import dataset_asset
from airflow_mlops_provider.operators.base import MlopsOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import DatasetRef


class SnapshotDatasetOperator(MlopsOperator):
    """Keep rows of files, or the frame a function returns, as a dataset.

    Gives a ``DatasetRef``. Each ``AssetAlias`` among the outlets receives an event of
    ``mlops-dataset://{name}`` with the record as its extra.

    Args:
        name: Name of the dataset; a folder of the workspace.
        source: Parquet or CSV files (a path, glob, folder or fsspec URI of these), or a
            function that returns a pandas frame; the window then only labels the dataset.
        time_column: Column that the window is about.
        window_start: First moment to keep, ISO 8601; empty is the beginning.
        window_end: First moment not to keep, ISO 8601; empty is the end.
        columns: Columns to keep; by default all.
        op_kwargs: Keyword arguments of the function.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "name",
        "source",
        "time_column",
        "window_start",
        "window_end",
        "columns",
        "op_kwargs",
    )

    def __init__(
        self,
        *,
        name: str,
        source: Any,
        time_column: str | None = None,
        window_start: str | None = None,
        window_end: str | None = None,
        columns: Sequence[str] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.source = source
        self.time_column = time_column
        self.window_start = window_start
        self.window_end = window_end
        self.columns = columns
        self.op_kwargs = op_kwargs

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the dataset to the workspace."""
        with self.tracked_run(context) as run:
            dataset = self._called() if callable(self.source) else self._read()
            run.log_record(dataset)
        self.log.info("Kept %d rows of %s at %s", dataset.n_rows, dataset.source, dataset.uri)
        self.emit_asset(context, dataset_asset(self.name), dataset)
        return dataset.to_xcom()

    def _read(self) -> DatasetRef:
        from airflow_mlops_provider.steps.snapshot import snapshot_dataset

        return snapshot_dataset(
            str(self.source),
            name=self.name,
            workspace=self.workspace_uri,
            time_column=self.time_column,
            window_start=self.window_start,
            window_end=self.window_end,
            columns=self.columns,
        )

    def _called(self) -> DatasetRef:
        from airflow_mlops_provider.steps.snapshot import write_dataset

        return write_dataset(
            self.source(**(self.op_kwargs or {})),
            self.name,
            self.workspace_uri,
            f"{self.source.__module__}.{self.source.__qualname__}",
            columns=self.columns,
            window_start=self.window_start,
            window_end=self.window_end,
        )
