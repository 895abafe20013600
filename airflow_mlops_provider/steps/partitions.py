"""Sort the rows of a dataset into partitions, on the local disk and in bounded memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.predict import dataset_batches

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef

_PERIODS = {
    "hour": "%Y-%m-%dT%H",
    "day": "%Y-%m-%d",
    "week": "%Y-%m-%d",
    "month": "%Y-%m",
    "year": "%Y",
}
_MOST_PARTITIONS = 500
"""Each is an open file while the rows are sorted into partitions."""
_MISSING = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, kw_only=True)
class Partitioning:
    """What the rows are partitioned by: columns, or the period that a time lies in."""

    columns: Sequence[str] = ()
    time_column: str | None = None
    period: str | None = None

    def check(self) -> None:
        """Raise a ParameterError if it says nothing, or too much."""
        if bool(self.columns) == bool(self.time_column):
            got = {"partition_by": list(self.columns), "time_column": self.time_column}
            raise _wrong("partition_by", "given, or else time_column and period", got)
        if (self.period in _PERIODS) != bool(self.time_column):
            constraint = f"one of {sorted(_PERIODS)} with time_column, and None without"
            raise _wrong("period", constraint, self.period)

    @property
    def names(self) -> list[str]:
        """The columns that are looked at."""
        return [self.time_column] if self.time_column else list(self.columns)

    def labels(self, rows: pa.Table) -> pa.ChunkedArray:
        """Return the folder of each row, such as ``origin=EWR/carrier=UA``."""
        parts = [self._label(name, rows[name]) for name in self.names]
        return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, "/")

    def _label(self, name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
        if self.period:
            values = self._period(name, values)
        codes = pc.dictionary_encode(values.combine_chunks())
        texts = [
            f"{quote(name, safe='')}={quote(_text(value), safe='')}" for value in codes.dictionary
        ]
        found = pa.array(texts, pa.string()).take(codes.indices)
        return pa.chunked_array([pc.fill_null(found, f"{quote(name, safe='')}={_MISSING}")])

    def _period(self, name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
        if not pa.types.is_temporal(values.type) or pa.types.is_time(values.type):
            constraint = f"a column of times, which {name!r} ({values.type}) is not"
            raise _wrong("time_column", constraint, name)
        assert self.period is not None
        if self.period == "week":
            values = pc.floor_temporal(values, unit="week")
        return pc.strftime(values, format=_PERIODS[self.period])


def counted(dataset: DatasetRef, by: Partitioning, batch_rows: int) -> Counter[str]:
    """Return how many rows each partition has.

    Raises:
        DataError: the file has other rows than the dataset says.
        ParameterError: there are too many partitions.
    """
    counts: Counter[str] = Counter()
    for rows in dataset_batches(dataset, by.names, batch_rows):
        found = pc.value_counts(by.labels(rows).combine_chunks())
        counts.update({each["values"]: each["counts"] for each in found.to_pylist()})
        if len(counts) > _MOST_PARTITIONS:
            constraint = f"of at most {_MOST_PARTITIONS} values (or a longer period)"
            raise _wrong("partition_by", constraint, f"{len(counts)} and more")
    if counts.total() != dataset.n_rows:
        raise DataError(
            f"Expected {dataset.n_rows} rows in {dataset.uri}, got {counts.total()}. Take the "
            "snapshot again."
        )
    return counts


def dealt(counts: Counter[str], part: int, of: int) -> dict[str, int]:
    """Return the partitions of one share; the largest are dealt first, so that shares are even."""
    mine = sorted(counts, key=lambda label: (-counts[label], label))[part::of]
    return {label: counts[label] for label in sorted(mine)}


def sort_rows(
    scratch: str,
    dataset: DatasetRef,
    columns: list[str],
    by: Partitioning,
    batch_rows: int,
    wanted: set[str],
) -> None:
    """Write the rows of each wanted partition to an Arrow stream of its own, :func:`spool`."""
    with ExitStack() as stack:
        writers: dict[str, Any] = {}
        for rows in dataset_batches(dataset, columns, batch_rows):
            labels = by.labels(rows)
            for label in pc.unique(labels).to_pylist():
                if label not in wanted:
                    continue
                if label not in writers:
                    sink = stack.enter_context(pa.OSFile(spool(scratch, label), "wb"))
                    writers[label] = stack.enter_context(pa.ipc.new_stream(sink, rows.schema))
                writers[label].write_table(rows.filter(pc.equal(labels, label)))


def sized(rows: Any, batch_rows: int) -> Iterator[pa.Table]:
    """Yield tables of ``batch_rows`` rows, however the stream is cut; the last may be shorter."""
    waiting: list[pa.RecordBatch] = []
    n = 0
    for batch in rows:
        while batch.num_rows:
            head = batch.slice(0, batch_rows - n)
            waiting.append(head)
            n += head.num_rows
            batch = batch.slice(head.num_rows)
            if n == batch_rows:
                yield pa.Table.from_batches(waiting)
                waiting, n = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def spool(scratch: str, label: str) -> str:
    """Return the file that holds the rows of a partition."""
    return str(Path(scratch, f"{hashlib.sha256(label.encode()).hexdigest()}.arrow"))


def _text(value: Any) -> str:
    return str(value.as_py())


def _wrong(name: str, constraint: str, value: object) -> ParameterError:
    return ParameterError.of(name, "predict_parts", constraint, value)
