"""Where values fall among the cells of a profile, and how many rows fall where.

Counts only add up, so neither the order of the rows nor the batches and files they come in
make a difference, and memory does not grow with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.drift.rows import LARGEST, Rows, kind_of, levels, numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_mlops_provider.steps.drift.profile import FeatureProfile

    Counts = NDArray[np.int64]

TOP = 20
"""Levels that have a bin of their own."""


class Cells:
    """The cells of one feature and the bins that they make up.

    The last cell and the last bin are for missing values. Bins of categories are the commonest
    levels, the others, those that the profile does not know, and the missing; if the profile
    could not hold all levels, an unknown one counts as one of the others.
    """

    def __init__(self, name: str, profile: FeatureProfile) -> None:
        self.name = name
        self.profile = profile
        self.is_categorical = profile.kind == "categorical"
        self.knows_all = self.is_categorical and profile.counts[-2] == 0
        self.reference = np.array(profile.counts, np.int64)
        self.bin_of_cell = self._bins_of_levels() if self.is_categorical else self._bins_of_edges()
        self.unseen_rate = self._unseen_rate()
        self.n_bins = int(self.bin_of_cell[-1]) + 1
        self._edges = np.array(profile.edges)
        self._levels = pa.array(profile.levels, pa.string())

    def _unseen_rate(self) -> float | None:
        """Return the share of new rows to expect in unknown levels (Good 1953)."""
        if not self.knows_all:
            return None
        once = int((self.reference[:-2] == 1).sum())
        return float(once / max(1, self.reference.sum()))

    def bins(self, cells: Counts) -> Counts:
        """Return rows a bin from rows a cell."""
        return np.bincount(self.bin_of_cell, cells, self.n_bins).astype(np.int64)

    def labels(self) -> list[str]:
        """Return what the bins are called."""
        if not self.is_categorical:
            return [*_ranges(self.profile.bins, self.profile.kind), "missing"]
        return [*self.profile.levels[:TOP], "other", "unseen", "missing"]

    def counts(self, values: pa.Array) -> Counts:
        """Return how many of the values fall into each cell; see :meth:`places`."""
        if self.is_categorical or self._is_missing(values):
            return np.bincount(self.places(values), minlength=len(self.reference))
        self._require_kind(values.type)
        known = numbers(values)
        known.sort()  # the search is faster in sorted values; NaN is last
        known = known[: len(known) - int(np.isnan(known).sum())]
        below = known.searchsorted(self._edges, "right")
        return np.diff([0, *below, len(known), len(values)])

    def places(self, values: pa.Array) -> Counts:
        """Return the cell of each value.

        Raises:
            DataError: the values are not of the profile's kind.
        """
        missing = len(self.reference) - 1
        if self._is_missing(values):
            return np.full(len(values), missing)
        self._require_kind(values.type)
        if not self.is_categorical:
            known = numbers(values)
            return np.where(np.isnan(known), missing, self._edges.searchsorted(known, "left"))
        names, rows = levels(values)
        found = pc.index_in(names, self._levels).fill_null(missing - 1).to_numpy()
        return np.append(found, missing)[rows].astype(np.int64)

    def _bins_of_edges(self) -> Counts:
        edges, bins = self.profile.edges, self.profile.bins
        return np.array([*np.searchsorted(bins, edges), len(bins), len(bins) + 1])

    def _bins_of_levels(self) -> Counts:
        known = len(self.profile.levels)
        top = min(known, TOP)
        other, unseen, missing = top, top + 1, top + 2
        beyond = unseen if self.knows_all else other
        return np.array([*range(top), *[other] * (known - top), beyond, missing])

    def _is_missing(self, values: pa.Array) -> bool:
        return bool(pc.all(pc.is_null(values, nan_is_null=True), min_count=0).as_py())

    def _require_kind(self, type_: pa.DataType) -> None:
        kind, expected = kind_of(type_), self.profile.kind
        # true and false are one and zero wherever numbers are expected
        fits = kind == expected or (expected == "numeric" and pa.types.is_boolean(type_))
        if fits or (kind is not None and self.profile.type == "null"):
            return
        raise DataError(
            f"Column {self.name!r} has type {type_}, expected {expected} values like "
            f"{self.profile.type} in the reference. Correct what wrote it, or profile new data."
        )


@dataclass(frozen=True)
class Tally:
    """How many rows fall where."""

    cells: dict[str, Counts]
    """By feature."""
    segments: dict[str, dict[str, Counts]]
    """By column and feature: rows a value of the column (last: any other) and bin."""


def tally(rows: Rows, features: Sequence[Cells], segments: Mapping[str, Sequence[str]]) -> Tally:
    """Count rows in one pass.

    Args:
        rows: Where they are.
        features: What is counted.
        segments: Values by column; for each the rows with that value are counted once more.

    Raises:
        DataError: a column is missing or of another kind, or a file is broken.
    """
    names = list(dict.fromkeys([*(each.name for each in features), *segments]))
    total = Tally(
        cells={each.name: np.zeros(len(each.reference), np.int64) for each in features},
        segments={
            column: {each.name: np.zeros((len(values) + 1, each.n_bins), int) for each in features}
            for column, values in segments.items()
        },
    )
    for batch in rows.batches(names):
        columns = dict(zip(names, batch.columns, strict=True))
        for each in features:
            total.cells[each.name] += each.counts(columns[each.name])
        for column, values in segments.items():
            groups = pc.index_in(columns[column].cast(pa.string()), pa.array(values, pa.string()))
            group = groups.fill_null(len(values)).to_numpy()
            for each in features:
                places = each.bin_of_cell[each.places(columns[each.name])]
                np.add.at(total.segments[column][each.name], (group, places), 1)
    return total


def _ranges(bins: Sequence[float], kind: str) -> Iterator[str]:
    """Call a bin by its ends, or by its value if it has only one."""
    lower = None
    for upper, above in pairwise([*bins, np.inf]):
        if lower is not None and np.nextafter(lower, np.inf) == upper:
            yield _text(upper, kind)
        elif lower is None:
            own = np.nextafter(upper, np.inf) == above
            yield f"{'below' if own else 'up to'} {_text(upper, kind)}"
        else:
            yield f"{_text(lower, kind)} to {_text(upper, kind)}"
        lower = upper
    yield "any" if lower is None else f"above {_text(lower, kind)}"


def _text(edge: float, kind: str) -> str:
    if kind == "datetime":
        return str(np.datetime64(round(edge), "us"))
    return f"{edge:.6g}" if abs(edge) < LARGEST else f"{np.sign(edge) * np.inf:.0f}"
