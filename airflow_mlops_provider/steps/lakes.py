"""Delta and Iceberg tables at one version; their libraries are extras."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.extras import required
from airflow_mlops_provider.steps.sources import (
    BATCH_ROWS,
    normalised,
    plain_schema,
    require_columns,
)

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class TableVersion:
    """A table as it was at one version."""

    pin: str
    """The table and its version, ``...@v12`` or ``...@snapshot-12``."""
    schema: pa.Schema
    _read: Callable[[list[str]], Iterator[pa.RecordBatch]]

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows, or some columns of them, batch by batch in normalised types.

        Raises:
            DataError: the table lacks a column.
        """
        wanted = list(self.schema.names if columns is None else columns)
        require_columns(self.schema.names, wanted, self.pin)
        return (normalised(batch.select(wanted), self.pin) for batch in self._read(wanted))


def table_version(
    table: str,
    table_format: str,
    version: str | int | None = None,
    options: Mapping[str, Any] | None = None,
) -> TableVersion:
    """Open a table at a version.

    Args:
        table: URI of a Delta table, or the identifier (``namespace.name``) of an Iceberg table.
        table_format: ``delta`` or ``iceberg``.
        version: A Delta version or ISO 8601 time, or an Iceberg snapshot id; by default the
            newest.
        options: Storage options of Delta, or properties of the Iceberg catalog, of which
            ``name`` names the catalog.

    Raises:
        DataError: there is no such table or version.
        ParameterError: the format is unknown, its library is missing, or the version or an
            option is not of the right form.
    """
    openers = {"delta": _delta, "iceberg": _iceberg}
    if table_format not in openers:
        raise ParameterError.of(
            "table_format", "snapshot", f"one of {sorted(openers)}", table_format
        )
    return openers[table_format](table, version, {**(options or {})})


def _delta(table: str, version: str | int | None, options: dict[str, Any]) -> TableVersion:
    deltalake = required("deltalake", "delta", "to read a Delta table")
    try:
        opened = deltalake.DeltaTable(table, storage_options=options or None)
        if version not in (None, ""):
            number = str(version).isdigit()
            opened.load_as_version(int(version) if number else str(version))
        data = opened.to_pyarrow_dataset()
    except (deltalake.exceptions.DeltaError, ValueError) as error:
        raise _unopened("Delta", table, version, error) from error

    def read(columns: list[str]) -> Iterator[pa.RecordBatch]:
        batches: Iterator[pa.RecordBatch] = data.to_batches(
            columns=columns, batch_size=BATCH_ROWS, batch_readahead=2, fragment_readahead=1
        )
        return batches

    return TableVersion(f"{table}@v{opened.version()}", plain_schema(data.schema), read)


def _iceberg(table: str, version: str | int | None, options: dict[str, Any]) -> TableVersion:
    catalogs, errors = (
        required(f"pyiceberg.{name}", "iceberg", "to read an Iceberg table")
        for name in ("catalog", "exceptions")
    )
    try:
        opened = catalogs.load_catalog(options.pop("name", "default"), **options).load_table(table)
        current = opened.current_snapshot()
        pinned = int(version) if version not in (None, "") else current and current.snapshot_id
        schema = opened.scan(snapshot_id=pinned).projection().as_arrow()
    except (errors.NoSuchTableError, errors.NoSuchNamespaceError, ValueError) as error:
        raise _unopened("Iceberg", table, version, error) from error

    def read(columns: list[str]) -> Iterator[pa.RecordBatch]:
        scan = opened.scan(snapshot_id=pinned, selected_fields=tuple(columns))
        batches: Iterator[pa.RecordBatch] = scan.to_arrow_batch_reader()
        return batches

    return TableVersion(f"{table}@snapshot-{pinned}", plain_schema(schema), read)


def _unopened(kind: str, table: str, version: object, error: Exception) -> DataError:
    at = "" if version in (None, "") else f" at version {version}"
    return DataError(
        f"Cannot open the {kind} table {table}{at}: {' '.join(str(error).split())}. Correct its "
        "name, version or table_options."
    )
