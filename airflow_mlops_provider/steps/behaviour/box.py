"""Search a declared box of inputs for rows that break a relation.

Points of a scrambled Sobol sequence cover the box evenly (Owen 1998), corners are where models are
rarely sound, and around the worst points it is searched on, in ever smaller neighbourhoods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from airflow_mlops_provider.exceptions import DataError, ParameterError

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlops_provider.steps.behaviour.engine import Findings

Points = NDArray[np.float64]
"""Shape (n, d), in [0, 1)."""
_CORNERS = 256
_KEPT = 10
_AROUND = 32
_FIRST_RADIUS = 0.1
_BELOW_ONE = np.nextafter(1.0, 0.0)


@dataclass(frozen=True)
class Axis:
    """One side of the box: an interval (``step`` 0), steps, or a list of values."""

    name: str
    low: float = 0.0
    high: float = 1.0
    step: float = 0.0
    values: Sequence[Any] = ()

    def at(self, points: NDArray[np.float64]) -> Any:
        """Return the values at points of [0, 1), shape (n,)."""
        if self.values:
            found = np.empty(len(points), dtype=object)
            found[:] = [self.values[place] for place in (points * len(self.values)).astype(int)]
            return found if self._mixed else np.array(found.tolist())
        if not self.step:
            return self.low + points * (self.high - self.low)
        n = round((self.high - self.low) // self.step) + 1
        return self.low + np.floor(points * n) * self.step

    @property
    def _mixed(self) -> bool:
        return not all(isinstance(each, int | float) for each in self.values)


def axes(box: Mapping[str, Any]) -> list[Axis]:
    """Return the sides of a box.

    Raises:
        ParameterError: there are none, or one is neither an interval nor a list of values.
    """
    if not box:
        raise ParameterError.of("box", "a behavioural test", "at least one feature", dict(box))
    return [_axis(name, side) for name, side in box.items()]


def search(
    sides: Sequence[Axis],
    rows: pd.DataFrame,
    compare: Callable[[pd.DataFrame], Findings],
    *,
    n: int,
    refine: int,
    rng: np.random.Generator,
) -> Findings:
    """Look for rows that break what ``compare`` asks.

    Args:
        sides: The box.
        rows: Whence features come that are not in the box.
        compare: Gives the findings of generated rows.
        n: Points of the Sobol sequence.
        refine: How often to look around the ten points with the least slack so far.
        rng: What is random in the search.

    Raises:
        DataError: a side is no feature of the model.
    """
    foreign = [side.name for side in sides if side.name not in rows.columns]
    if foreign:
        raise DataError(
            f"Expected the box to be of features of the model, got {foreign} beside "
            f"{sorted(rows.columns)}. Correct the test."
        )
    points = np.concatenate([_sobol(len(sides), n, rng), _corners(sides, rng)])
    others = rng.integers(len(rows), size=len(points))
    findings = compare(_generated(sides, points, rows, others))
    for turn in range(refine):
        worst = np.argsort(findings.slack, kind="stable")[:_KEPT].repeat(_AROUND)
        near = _near(sides, points[worst], _FIRST_RADIUS / 2**turn, rng)
        found = compare(_generated(sides, near, rows, others[worst]))
        points, others = np.concatenate([points, near]), np.concatenate([others, others[worst]])
        findings = findings.and_more(found)
    return findings


def _axis(name: str, side: Any) -> Axis:
    if isinstance(side, list | tuple) and side:
        return Axis(name, values=tuple(side))
    if isinstance(side, Mapping) and {"low", "high"} <= set(side) <= {"low", "high", "step"}:
        low, high, step = (side.get(key, 0) for key in ("low", "high", "step"))
        numbers = all(isinstance(each, int | float) and np.isfinite(each) for each in (low, high))
        if numbers and low <= high and isinstance(step, int | float) and step >= 0:
            return Axis(name, float(low), float(high), float(step))
    raise ParameterError.of(
        f"box[{name!r}]",
        "a behavioural test",
        "{low, high} with low <= high, these with a step, or a list of values",
        side,
    )


def _sobol(d: int, n: int, rng: np.random.Generator) -> Points:
    points: Points = qmc.Sobol(d, rng=rng).random_base2((n - 1).bit_length())[:n]
    return np.minimum(points, _BELOW_ONE)


def _corners(sides: Sequence[Axis], rng: np.random.Generator) -> Points:
    numbers = [place for place, side in enumerate(sides) if not side.values]
    if 2 ** len(numbers) <= _CORNERS:
        corners = np.array(list(product([0.0, _BELOW_ONE], repeat=len(numbers))))
    else:
        corners = rng.integers(2, size=(_CORNERS, len(numbers))) * _BELOW_ONE
    points = rng.random((len(corners), len(sides)))
    points[:, numbers] = corners
    return points


def _near(sides: Sequence[Axis], points: Points, radius: float, rng: np.random.Generator) -> Points:
    """Move numbers by up to ``radius`` of their side, and a value of a list now and then."""
    moved = np.clip(points + rng.uniform(-radius, radius, points.shape), 0.0, _BELOW_ONE)
    lists = np.array([bool(side.values) for side in sides])
    other = rng.random(points.shape)
    chosen = np.where(other < radius, rng.random(points.shape), points)
    return np.where(lists, chosen, moved)


def _generated(
    sides: Sequence[Axis], points: Points, rows: pd.DataFrame, others: NDArray[np.intp]
) -> pd.DataFrame:
    frame = rows.iloc[others].reset_index(drop=True)
    made = {
        side.name: _like(side.at(points[:, place]), frame[side.name])
        for place, side in enumerate(sides)
    }
    return frame.assign(**made)


def _like(values: Any, column: pd.Series[Any]) -> Any:
    """Return whole numbers as integers where the data has integers."""
    whole = values.dtype == float and bool((values == np.floor(values)).all())
    return values.astype(column.dtype) if whole and column.dtype.kind in "iu" else values
