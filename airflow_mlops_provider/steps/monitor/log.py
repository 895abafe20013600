"""The live predictions that a report is about, read from Parquet bit by bit.

Records of shadow deployments are left out throughout: nobody was given their answers. A request
that was tried twice is two predictions for errors and latency, and one *answered* prediction for
all else: its last attempt that gave an answer.

DuckDB filters and projects within ``_MEMORY``, whatever the size of the file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from duckdb import ColumnExpression, ConstantExpression
from fsspec.core import url_to_fs

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.drift.rows import Rows
from airflow_mlops_provider.steps.prediction_log import INPUT
from airflow_mlops_provider.steps.readable import readable
from airflow_mlops_provider.steps.sources import BATCH_ROWS, normalised

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

COLUMNS = (
    "request_id",
    "row",
    "ts",
    "deployment",
    "model_uri",
    "score",
    "status",
    "latency_ms",
    "attempt",
    "shadow",
)
_MEMORY = "256MB"
_KEY = 'hash(request_id, "row")'
_SUPERSEDED = f"""
CREATE TABLE superseded AS
SELECT file_row_number FROM live SEMI JOIN repeated ON {_KEY} = repeated.key WHERE status < 400
QUALIFY row_number() OVER (
    PARTITION BY request_id, "row" ORDER BY attempt DESC, ts DESC, deployment DESC
) > 1
"""  # noqa: S608 - ours
_ANSWERED = """
CREATE VIEW answered AS
SELECT * FROM live ANTI JOIN superseded USING (file_row_number) WHERE status < 400
"""
_ALL_ANSWERED = "CREATE VIEW answered AS SELECT * FROM live WHERE status < 400"


@dataclass(frozen=True)
class Scope:
    """Which predictions a report is about."""

    model_uri: str | None = None
    start: datetime | None = None
    """Inclusive."""
    end: datetime | None = None
    """Exclusive."""
    now: datetime | None = None
    """What claims to be later than this is counted and otherwise left out."""


class PredictionLog:
    """A Parquet file with the columns of a compacted log, within a scope.

    ``live`` and ``answered`` are the names of its two views in SQL.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, uri: str, schema: pa.Schema, n_future: int
    ) -> None:
        self._connection = connection
        self.uri = uri
        self.types = {field.name: field.type for field in schema}
        self.inputs = [name.removeprefix(INPUT) for name in schema.names if name.startswith(INPUT)]
        self.n_future = n_future

    def one(self, expressions: Sequence[str], view: str = "answered") -> tuple[Any, ...]:
        """Return one row of aggregates."""
        return self.all(f"SELECT {', '.join(expressions)} FROM {view}")[0]  # noqa: S608 - ours

    def all(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query over the views."""
        return self._connection.sql(query).fetchall()

    def batches(
        self, expressions: Mapping[str, str], where: str = "TRUE"
    ) -> Iterator[pa.RecordBatch]:
        """Yield expressions over the answered predictions, by name."""
        told = ", ".join(f"{each} AS {quoted(name)}" for name, each in expressions.items())
        query = f"SELECT {told} FROM answered WHERE {where}"  # noqa: S608 - names are quoted
        for batch in self._connection.sql(query).to_arrow_reader(BATCH_ROWS):
            yield normalised(batch, self.uri)

    def table(self, expressions: Mapping[str, str], where: str = "TRUE") -> pa.Table:
        """Return all of :meth:`batches`; only for a few narrow columns."""
        return pa.Table.from_batches(self.batches(expressions, where)) if expressions else None

    def sorted(self, expression: str) -> Floats:
        """Return the finite values of an expression, sorted, shape (n,)."""
        where = f"isfinite({expression})"
        batches = self.batches({"value": f"CAST({expression} AS DOUBLE)"}, where)
        parts = [np.asarray(batch.column(0)) for batch in batches]
        values = np.concatenate([np.empty(0), *parts])
        values.sort()
        return values

    def rows(self, expressions: Mapping[str, str]) -> Rows:
        """Return the answered predictions as rows for the drift engine."""
        return Rows(self.uri, [_Part(self, expressions)])

    def columns_of(self, names: Sequence[str], parameter: str) -> dict[str, str]:
        """Return the columns of the log that names mean: inputs, or columns of its own.

        A log of no answers has no inputs, and so may lack any of them.

        Raises:
            DataError: there is no such column.
        """
        known = {name: self._column_of(name) for name in names}
        unknown = [name for name, column in known.items() if column is None]
        if unknown and self.inputs:
            raise DataError(
                f"Expected {parameter} to name inputs or columns of {self.uri}, got {unknown}. It "
                f"has the inputs {self.inputs[:20]}."
            )
        return {name: column for name, column in known.items() if column is not None}

    def _column_of(self, name: str) -> str | None:
        return next((each for each in (f"{INPUT}{name}", name) if each in self.types), None)


@dataclass(frozen=True)
class _Part:
    log: PredictionLog
    expressions: Mapping[str, str]

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns by name."""
        return self.log.batches({name: self.expressions[name] for name in columns})


@contextmanager
def open_log(uri: str, scope: Scope, columns: Sequence[str] = COLUMNS) -> Iterator[PredictionLog]:
    """Open a compacted log, or the labelled predictions of one.

    A file that lies elsewhere is copied to a temporary folder first.

    Raises:
        DataError: the file is gone or broken, or lacks one of ``columns``.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-monitor-") as folder, readable(uri), _whole(uri):
        path = _local(uri, folder)
        schema = pq.read_schema(path)
        missing = [name for name in columns if name not in schema.names]
        if missing:
            raise DataError(
                f"Expected columns {missing} in {uri}, got {sorted(schema.names)}. Correct the "
                "names, or the step that wrote it."
            )
        config: dict[str, Any] = {"memory_limit": _MEMORY, "temp_directory": folder, "threads": 2}
        with duckdb.connect(config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET preserve_insertion_order = false")
            n_future = _create_views(connection, path, scope)
            yield PredictionLog(connection, uri, schema, n_future)


@contextmanager
def _whole(uri: str) -> Iterator[None]:
    """Name the file in which DuckDB found a damaged page."""
    try:
        yield
    except duckdb.Error as error:
        # of a damaged header it tells with a bare error
        damaged = isinstance(error, duckdb.InvalidInputException | duckdb.IOException)
        if not damaged and type(error) is not duckdb.Error:
            raise
        raise DataError(
            f"Cannot read {uri} as Parquet: {str(error).splitlines()[0]}. The file is damaged; run "
            "the task that wrote it again (clear it)."
        ) from error


def _create_views(connection: duckdb.DuckDBPyConnection, path: str, scope: Scope) -> int:
    """Create the views; return how many predictions claim to be of the future."""
    live = connection.read_parquet(path, file_row_number=True)
    live = live.filter(~ColumnExpression("shadow"))
    if scope.model_uri is not None:
        live = live.filter(ColumnExpression("model_uri") == ConstantExpression(scope.model_uri))
    if scope.start is not None:
        live = live.filter(ColumnExpression("ts") >= ConstantExpression(scope.start))
    if scope.end is not None:
        live = live.filter(ColumnExpression("ts") < ConstantExpression(scope.end))
    n_future = 0
    if scope.now is not None:
        now = ConstantExpression(scope.now)
        n_future = live.filter(ColumnExpression("ts") > now).count("*").fetchall()[0][0]
        live = live.filter(ColumnExpression("ts") <= now)
    live.create_view("live")
    repeated = _repeated(connection)
    if not len(repeated):
        connection.execute(_ALL_ANSWERED)
        return int(n_future)
    connection.register("repeated", pa.table({"key": repeated}))
    connection.execute(_SUPERSEDED)
    connection.unregister("repeated")
    connection.execute(_ANSWERED)
    return int(n_future)


def _repeated(connection: duckdb.DuckDBPyConnection) -> NDArray[np.uint64]:
    """Return the hashes of requests that were answered more than once: 8 bytes a prediction."""
    query = f"SELECT {_KEY} AS key FROM live WHERE status < 400"  # noqa: S608 - ours
    reader = connection.sql(query).to_arrow_reader(BATCH_ROWS)
    parts = [batch.column(0).to_numpy() for batch in reader]
    keys = np.concatenate([np.empty(0, np.uint64), *parts])
    keys.sort()
    return np.unique(keys[1:][keys[1:] == keys[:-1]])


def _local(uri: str, folder: str) -> str:
    fs, path = url_to_fs(uri)
    if "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        return str(path)
    copy = f"{folder}/log.parquet"
    with fsspec.open(uri, "rb") as source, open(copy, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return copy


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def rounded(value: float | None) -> float | None:
    """Return a mean to 12 digits, so that the order in which threads add does not show."""
    return None if value is None else float(f"{value:.12g}")
