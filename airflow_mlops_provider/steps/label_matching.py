"""Which prediction a label belongs to, settled by DuckDB in bounded memory.

Labels are first settled among themselves: identical ones count once, of corrected ones the last
holds, and contradictions stop the join or are left out. Then each finds its predictions: by an id
that both have, or, with a time, as the outcome of the last prediction that was made for its key (an
as-of join). Only ids, times and labels are sorted, with the help of a temporary folder; the
predictions stream past. The same inputs give the same file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps import label_queries as queries
from airflow_mlops_provider.steps.label_columns import narrowed
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.steps.snapshot import write_batches
from airflow_mlops_provider.steps.sources import TIME

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef, PredictionBatchRef

LABEL, LABEL_TS = "label", "label_ts"
REQUEST, ROW, TS = "request_id", "row", "ts"
_ROWS_AT_ONCE = 50_000
_MEMORY = "256MB"
_OPTIONAL = {"row": "BIGINT", "updated": "TIMESTAMPTZ", "event": "TIMESTAMPTZ"}


@dataclass
class LabelCounts:
    """What became of predictions and labels in a join, which fills it in."""

    predictions: int = 0
    labelled: int = 0
    """Predictions that have a label."""
    labels: int = 0
    """Rows of labels with an id and a value; what follows says what became of them."""
    joined: int = 0
    repeated: int = 0
    """Identical to another."""
    corrected: int = 0
    """Replaced by a later one."""
    contradicting: int = 0
    """Left out, because several differ and nothing orders them."""
    unknown: int = 0
    """Nothing was predicted for their id."""
    early: int = 0
    """They lie before all predictions of their id."""
    expired: int = 0
    """They lie more than ``max_delay`` after the last prediction before them."""
    surplus: int = 0
    """The last prediction before them has the label of an earlier event already."""
    unreadable: int = 0
    """Torn lines of the feedback's log."""

    def metrics(self) -> dict[str, float]:
        """Return the counts as metrics, and ``label_coverage``, the share of predictions."""
        counts = {f"labels_{name}": float(value) for name, value in vars(self).items()}
        predictions, labels = counts.pop("labels_predictions"), counts.pop("labels_labels")
        coverage = self.labelled / max(1, self.predictions)
        return {"predictions": predictions, "labels": labels, **counts, "label_coverage": coverage}


@dataclass(frozen=True)
class LabelSource:
    """Labels, and how they find their predictions."""

    rows: Iterable[pa.Table]
    """Columns ``key`` and ``label``, and ``row``, ``updated`` and ``event`` as far as there are."""
    key: str
    """Column of the predictions that ``key`` is compared with, as text."""
    key_name: str
    """What errors call the column ``key``."""
    uri: str


@dataclass(frozen=True)
class Limits:
    """What is joined, and what is not."""

    delay: timedelta | None = None
    skew: timedelta = timedelta(0)
    drop: bool = False
    """Whether labels that contradict each other are left out; otherwise they are an error."""
    counts: LabelCounts = field(default_factory=LabelCounts)


def label_predictions(
    predictions: PredictionBatchRef,
    sources: Sequence[LabelSource],
    limits: Limits,
    *,
    name: str,
    workspace: str,
) -> DatasetRef | None:
    """Write the predictions that have a label as a dataset; an earlier source has precedence.

    Raises:
        DataError: a column is missing or holds no times, or labels contradict each other.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-labels-") as scratch:
        config: dict[str, Any] = {"memory_limit": _MEMORY, "temp_directory": scratch, "threads": 2}
        with duckdb.connect(f"{scratch}/labels.db", config=config) as database:
            database.execute("SET TimeZone = 'UTC'")
            found = [
                _Join(database, scratch, source, limits).found(predictions.uri)
                for source in sources
            ]
    labels = _precedent(found)
    limits.counts.predictions += predictions.n_rows
    limits.counts.labelled += labels.num_rows
    if not labels.num_rows:
        return None
    return write_batches(
        _labelled(predictions.uri, labels),
        name,
        workspace,
        f"{predictions.uri} with {', '.join(dict.fromkeys(source.uri for source in sources))}",
        window_start=predictions.window_start,
        window_end=predictions.window_end,
    )


@dataclass(frozen=True)
class _Join:
    """One source of labels on its way to the predictions, as tables of DuckDB."""

    database: duckdb.DuckDBPyConnection
    scratch: str
    source: LabelSource
    limits: Limits

    def found(self, predictions_uri: str) -> pa.Table:
        """Return ``number`` (a row of the predictions), ``label`` and ``label_ts``, in order."""
        schema = self._take_labels()
        in_time = self.source.key != REQUEST and "event" in schema.names
        self._settle("key, event" if in_time else "key, row" if "row" in schema.names else "key")
        self._take_predictions(predictions_uri, schema.names, in_time=in_time)
        if in_time:
            self.database.execute(queries.ASKED)
        by_row = " AND settled.row = predictions.row" if "row" in schema.names else ""
        by_id = queries.MATCHED_BY_ID.format(same=f"settled.key = predictions.key{by_row}")
        spans = {"delay": self.limits.delay, "skew": self.limits.skew}
        self.database.execute(queries.MATCHED_IN_TIME if in_time else by_id, spans)
        for fate, n in self.database.execute(queries.FATES).fetchall():
            self._count(fate, n)
        found = self.database.sql(
            "SELECT number, label, label_ts FROM matched WHERE fate = 'joined' ORDER BY number"
        ).to_arrow_table()
        kinds = {"number": pa.int64(), LABEL: schema.field(LABEL).type, LABEL_TS: TIME}
        return found.cast(pa.schema(kinds))

    def _take_labels(self) -> pa.Schema:
        """Make ``labels`` of the rows that have come; return the columns they were given with."""
        path = f"{self.scratch}/labels.parquet"
        schema = _spool(self.source.rows, path)
        times = [name for name in ("updated", "event") if _is_time(schema, name)]
        come = ["key IS NOT NULL", "label IS NOT NULL"]
        needed = ("row", "event") if self.source.key != REQUEST else ("row",)
        come += [f"{name} IS NOT NULL" for name in needed if name in schema.names]
        if pa.types.is_floating(schema.field(LABEL).type):
            come.append("NOT isnan(label)")
        self.database.execute(
            queries.LABELS.format(
                key=_as_text(schema.field("key").type),
                optional=", ".join(
                    name if name in schema.names else f"NULL::{kind} AS {name}"
                    for name, kind in _OPTIONAL.items()
                ),
                known=", ".join([*times, "NULL::TIMESTAMPTZ"]),
                come=" AND ".join(come),
            ),
            {"path": path},
        )
        return schema

    def _settle(self, unit: str) -> None:
        """Leave one label for each key, and its row or time, and count the others."""
        self.database.execute(queries.SETTLED.format(unit=unit))
        (n,) = self._one("SELECT count(*) FROM labels")
        last, different, contradicting = self._one(
            "SELECT COALESCE(sum(n), 0)::BIGINT, COALESCE(sum(answers), 0)::BIGINT, "
            "COALESCE(sum(answers) FILTER (answers > 1), 0)::BIGINT FROM settled"
        )
        if contradicting and not self.limits.drop:
            raise self._contradiction()
        self.database.execute("DELETE FROM settled WHERE answers > 1")
        self._count("labels", n)
        self._count("corrected", n - last)
        self._count("repeated", last - different)
        self._count("contradicting", contradicting)

    def _contradiction(self) -> DataError:
        n, keys = self._one(
            "SELECT count(*), list(key ORDER BY id)[:5] FROM settled WHERE answers > 1"
        )
        return DataError(
            f"Expected one label for each {self.source.key_name!r} in {self.source.uri}, got "
            f"several for {n} of them ({', '.join(keys)}). Remove the "
            "repeated rows, name in updated_column the time by which the last correction holds, or "
            "leave such labels out with on_conflict='drop'."
        )

    def _take_predictions(self, uri: str, given: Sequence[str], *, in_time: bool) -> None:
        """Make ``predictions`` with what the join asks of them; ``number`` is a row's place."""
        columns = {"key": self.source.key}
        if "row" in given or in_time:
            columns["row"] = ROW
        if "event" in given:
            columns["ts"] = TS
        if in_time:
            columns["request"] = REQUEST
        path = f"{self.scratch}/predictions.parquet"
        schema = _spool(narrowed(uri, columns), path)
        names = [f"{_as_text(schema.field('key').type)} AS key", *list(columns)[1:]]
        names += [] if "ts" in columns else ["NULL::TIMESTAMPTZ AS ts"]
        self.database.execute(
            f"CREATE OR REPLACE TABLE predictions AS SELECT file_row_number AS number, "  # noqa: S608 - our own names
            f"{', '.join(names)} FROM read_parquet($path, file_row_number = true)",
            {"path": path},
        )

    def _count(self, what: str, n: int) -> None:
        counts = self.limits.counts
        setattr(counts, what, getattr(counts, what) + n)

    def _one(self, query: str) -> Any:
        return self.database.execute(query).fetchone()


def _spool(tables: Iterable[pa.Table], path: str) -> pa.Schema:
    """Write at least one table, all of one schema, to a local file; return the schema."""
    writer = None
    for table in tables:
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return writer.schema


def _is_time(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and schema.field(name).type == TIME


def _as_text(kind: pa.DataType) -> str:
    """Return keys as text in SQL, so that the log's ``"7"`` meets the table's 7 (and 7.0)."""
    if not pa.types.is_floating(kind):
        return "key::VARCHAR"
    whole = "key = trunc(key) AND abs(key) < 9e18"
    return (
        f"CASE WHEN isnan(key) THEN NULL WHEN {whole} THEN key::BIGINT::VARCHAR "
        "ELSE key::VARCHAR END"
    )


def _precedent(found: Sequence[pa.Table]) -> pa.Table:
    """Return one label for each prediction, that of the first source that has one."""
    known = found[0]
    for more in found[1:]:
        new = ~np.isin(more["number"].to_numpy(), known["number"].to_numpy())
        known = pa.concat_tables([known, more.filter(pa.array(new))]).sort_by("number")
    return known


def _labelled(uri: str, labels: pa.Table) -> Iterator[pa.Table]:
    """Give the predictions that have a label, with it, bit by bit."""
    numbers = labels["number"].to_numpy()
    with readable(uri), fsspec.open(uri, "rb") as file:
        start = 0
        for batch in pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
            first, last = np.searchsorted(numbers, (start, start + batch.num_rows))
            if first < last:
                here = labels.slice(first, last - first)
                rows = pa.Table.from_batches([batch]).take(pa.array(numbers[first:last] - start))
                rows = rows.drop_columns(list({LABEL, LABEL_TS} & set(rows.column_names)))
                yield rows.append_column(LABEL, here[LABEL]).append_column(
                    labels.schema.field(LABEL_TS), here[LABEL_TS]
                )
            start += batch.num_rows
