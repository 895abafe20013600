"""Rows that a suite can be asked about: a dataset, files, predictions or a frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import great_expectations as gx
import pandas as pd
import pyarrow as pa
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import DatasetRef, PredictionBatchRef
from airflow_mlops_provider.steps.prediction_log import INPUT, answered, without_shadows
from airflow_mlops_provider.steps.snapshot import read_dataset
from airflow_mlops_provider.steps.sources import Part, parts_of, require_distinct

_OF_THE_LOG = ["request_id", "row", "attempt", "status", "shadow"]


class Asked(Protocol):
    """What a suite is asked about."""

    @property
    def uri(self) -> str:
        """What reports call it; without credentials."""

    @property
    def columns(self) -> list[str]:
        """The names of all columns."""

    def names(self) -> Any:
        """Return a batch of Great Expectations whose columns have these names."""

    def values(self, columns: Sequence[str] | None) -> Any:
        """Return a batch with all rows, and at least these columns (None is all)."""


@dataclass(frozen=True)
class Rows:
    """Rows that are read once it is known which columns are needed."""

    uri: str
    columns: list[str]
    read: Callable[[Sequence[str] | None], pd.DataFrame]

    def names(self) -> Any:
        """Return a batch of no rows."""
        return frame_batch(pd.DataFrame(columns=self.columns))

    def values(self, columns: Sequence[str] | None) -> Any:
        """Read these columns, those that do not exist left out.

        Raises:
            DataError: there are no rows, of which every suite would hold.
        """
        if columns is not None:
            columns = [each for each in self.columns if each in columns] or self.columns[:1]
        frame = self.read(columns)
        if frame.empty:
            raise DataError(
                f"{self.uri} has no rows to validate. Check its source, or wait until its data "
                "has arrived."
            )
        return frame_batch(frame)


def rows_of(data: object) -> Rows:
    """Return the rows of a ``DatasetRef``, ``PredictionBatchRef``, frame, or files' path or URI.

    Of predictions these are the inputs of live, answered requests, by the model's own names.

    Raises:
        DataError: a file is missing or broken, or names a column twice.
        ParameterError: ``data`` is none of these.
    """
    if isinstance(data, DatasetRef):
        return Rows(data.uri, list(data.columns), lambda columns: read_dataset(data, columns))
    if isinstance(data, PredictionBatchRef):
        return _predictions(data)
    if isinstance(data, pd.DataFrame):
        require_distinct(list(data.columns), "The frame")
        return Rows("frame", list(data.columns), lambda columns: data)
    if isinstance(data, str):
        return _files(data)
    raise ParameterError.of(
        "data", "validate", "a DatasetRef, PredictionBatchRef, DatabaseTable, frame or URI", data
    )


def frame_batch(frame: pd.DataFrame) -> Any:
    """Return a frame as a batch of Great Expectations."""
    asset = gx_context().data_sources.add_pandas("rows").add_dataframe_asset("rows")
    definition = asset.add_batch_definition_whole_dataframe("whole")
    return definition.get_batch(batch_parameters={"dataframe": frame})


def gx_context() -> Any:
    """Return a new context of Great Expectations that keeps nothing and shows no progress."""
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),  # without a folder for pages
        progress_bars=ProgressBarsConfig(globally=False),
    )
    return gx.get_context(project_config=config, mode="ephemeral")


def _files(source: str) -> Rows:
    parts = parts_of(source)
    columns = list(dict.fromkeys(name for part in parts for name in part.schema.names))
    return Rows(source, columns, lambda wanted: _joined(parts, wanted, source).to_pandas())


def _predictions(batch: PredictionBatchRef) -> Rows:
    parts = parts_of(batch.uri)
    names = [name for name in parts[0].schema.names if name.startswith(INPUT)]
    if not names:
        raise DataError(
            f"{batch.uri} has no inputs of answered predictions. Wait for traffic, or widen the "
            "window of the compaction."
        )

    def read(columns: Sequence[str] | None) -> pd.DataFrame:
        inputs = names if columns is None else [INPUT + column for column in columns]
        log = _joined(parts, [*_OF_THE_LOG, *inputs], batch.uri).to_pandas()
        frame: pd.DataFrame = answered(without_shadows(log))[inputs]
        return frame.rename(columns=lambda name: name.removeprefix(INPUT))

    return Rows(batch.uri, [name.removeprefix(INPUT) for name in names], read)


def _joined(parts: list[Part], columns: Sequence[str] | None, source: str) -> pa.Table:
    """Put files below each other; a column that one of them lacks is null there."""
    try:
        return pa.concat_tables(
            [_table(part, columns) for part in parts], promote_options="permissive"
        )
    except pa.ArrowException as error:
        raise DataError(
            f"The files of {source} disagree about a column: {error}. Give it one type in "
            "all of them."
        ) from error


def _table(part: Part, columns: Sequence[str] | None) -> pa.Table:
    schema = part.schema
    if columns is not None:
        schema = pa.schema([field for field in schema if field.name in columns])
    return pa.Table.from_batches(part.batches(schema.names), schema)
