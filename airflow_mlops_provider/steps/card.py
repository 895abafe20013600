"""The data card of a snapshot: what a person wants to know before using it.

After "Data Cards" (Pushkarna, Zaldivar and Kjartansson, FAccT 2022) and "Datasheets for
Datasets" (Gebru et al., CACM 2021): where the rows come from, who answers for them, under which
license, when and how they were taken, and what is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops_provider.steps.pages import render_page

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef
    from airflow_mlops_provider.steps.sources import Part

MAX_FILES = 200
"""How many files a card lists."""


@dataclass
class ColumnFacts:
    """What was seen of one column so far."""

    nulls: int = 0
    low: Any = None
    """Least value of numbers and times; NaN is left out."""
    high: Any = None

    def update(self, values: pa.ChunkedArray) -> None:
        """Add more values."""
        self.nulls += values.null_count
        if not _ordered(values.type):
            return
        ends = pc.min_max(values).as_py()
        self.low = min(_known(self.low, ends["min"]), default=None)
        self.high = max(_known(self.high, ends["max"]), default=None)


@dataclass
class DataCard:
    """Collects what there is to tell while a snapshot is taken.

    Args:
        owner: Who answers for the data.
        license: Under which license they may be used.
        description: What the rows are.
        query: The SQL text, if the rows come from a database.
        conn_id: The Connection it ran on.
        parameters: Names of the query's bind parameters; their values are not told.
    """

    owner: str | None = None
    license: str | None = None
    description: str | None = None
    query: str | None = None
    conn_id: str | None = None
    parameters: Sequence[str] = ()
    parts: list[Part] = field(default_factory=list)
    columns: dict[str, ColumnFacts] = field(default_factory=dict)

    def update(self, table: pa.Table) -> None:
        """Count the rows of ``table`` in."""
        for name in table.column_names:
            self.columns.setdefault(name, ColumnFacts()).update(table[name])

    def html(self, dataset: DatasetRef, taken: Mapping[str, str]) -> str:
        """Return the page.

        Args:
            dataset: The snapshot.
            taken: When and how it was taken, as labels and what they say.
        """
        return render_page(
            "data_card.html", card=self, dataset=dataset, taken=taken, max_files=MAX_FILES
        )


def _ordered(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or (pa.types.is_temporal(kind) and not pa.types.is_interval(kind))
    )


def _known(*values: Any) -> list[Any]:
    return [value for value in values if value is not None and value == value]
