"""Count the levels of a column of texts or booleans, however many there are.

Levels are counted by hash, and only the names of the first that come are held; if those are not
enough, the column is read again for the names of the commonest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops_provider.steps.drift.rows import Rows, text_hashes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PENDING = 1 << 20


def count_levels(rows: Rows, name: str, most: int) -> tuple[list[str], list[int]]:
    """Return the ``most`` commonest levels of a column, ties by name, and the rows of each level.

    Two more counts follow: rows of all other levels, and rows where the value is missing.
    """
    counter = _Counter(names_held=10 * most)
    for array in rows.column(name):
        counter.add(array)
    counter.merge()
    first = np.lexsort([counter.hashes, -counter.counts])[:most]
    counts = dict(zip(counter.hashes[first].tolist(), counter.counts[first].tolist(), strict=True))
    names = counter.names
    if not counts.keys() <= names.keys():
        names = _names(rows.column(name), counter.hashes[first])
    ranked = sorted((-count, names[key]) for key, count in counts.items())
    kept = [-count for count, _ in ranked]
    others = int(counter.counts.sum()) - sum(kept)
    return [level for _, level in ranked], [*kept, others, counter.missing]


class _Counter:
    def __init__(self, names_held: int) -> None:
        self.hashes = np.empty(0, np.uint64)
        self.counts = np.empty(0, np.int64)
        self.names: dict[int, str] = {}
        self.missing = 0
        self._names_held = names_held
        self._pending: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []

    def add(self, array: pa.Array) -> None:
        found = pc.value_counts(array.cast(pa.string()).drop_null())
        texts, counts = found.field("values"), found.field("counts").to_numpy()
        hashes = text_hashes(texts)
        self.missing += array.null_count
        if len(self.names) < self._names_held:
            self.names.update(zip(hashes.tolist(), texts.to_pylist(), strict=True))
        self._pending.append((hashes, counts))
        if sum(len(each) for each, _ in self._pending) > _PENDING:
            self.merge()

    def merge(self) -> None:
        """Add what is pending to the counts."""
        hashes, counts = zip((self.hashes, self.counts), *self._pending, strict=True)
        self.hashes, places = np.unique(np.concatenate(hashes), return_inverse=True)
        self.counts = np.zeros(len(self.hashes), np.int64)
        np.add.at(self.counts, places, np.concatenate(counts))
        self._pending = []


def _names(arrays: Iterable[pa.Array], hashes: NDArray[np.uint64]) -> dict[int, str]:
    names: dict[int, str] = {}
    for array in arrays:
        texts = array.cast(pa.string()).drop_null().unique()
        found = text_hashes(texts)
        wanted = np.isin(found, hashes)
        names.update(
            zip(found[wanted].tolist(), texts.filter(pa.array(wanted)).to_pylist(), strict=True)
        )
    return names
