"""Ask a model about many rows at once, and learn which of them it does not answer."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_mlops_provider.exceptions import ModelError, ServiceError
from airflow_mlops_provider.steps.evaluate import predict_answers

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

CHUNK_ROWS = 100_000
"""Rows that are predicted at once."""
_MAX_SPLITS = 200
_MAX_IN_VAIN = 64
_MAX_MESSAGE = 200


@dataclass(frozen=True)
class Answers:
    """The answers to n rows: k numbers each, NaN where the model gave none."""

    values: NDArray[np.float64]
    """Shape (n, k)."""
    of: int | None = None
    """The number of each row that counts; None for the last."""
    refusals: dict[int, str] = field(default_factory=dict)
    """Row to what the model raised instead of an answer."""

    @property
    def score(self) -> NDArray[np.float64]:
        """The number that counts, shape (n,)."""
        return self.values[:, -1 if self.of is None else self.of]

    def decision(self, threshold: float) -> NDArray[np.float64]:
        """Return the class, shape (n,): the likeliest of several, or whether one is 1; or NaN."""
        known = np.isfinite(self.values.sum(axis=1))
        if self.values.shape[1] == 1:
            chosen = (self.values[:, 0] >= threshold).astype(float)
        else:
            chosen = np.nan_to_num(self.values).argmax(axis=1).astype(float)
        return np.where(known, chosen, np.nan)

    def part(self, start: int, stop: int) -> Answers:
        """Return the answers to some of the rows."""
        refusals = {row - start: text for row, text in self.refusals.items() if start <= row < stop}
        return Answers(self.values[start:stop], self.of, refusals)


def unknown(n: int) -> Answers:
    """Return answers to n rows of which nothing is known."""
    return Answers(np.full((n, 1), np.nan))


def ask(model: Any, frame: pd.DataFrame, of: int | None = None) -> Answers:
    """Return the model's answers to the rows of ``frame``.

    If it raises, the rows are asked again in halves, up to 200 times, or 64 if it answers none of
    them; what it still refuses then has no answer.

    Raises:
        ModelError: it does not answer with as many numbers as ``of`` needs.
        ServiceError: what answers for the model is not there; a retry may help.
    """
    found: list[tuple[int, NDArray[np.float64]]] = []
    refusals: dict[int, str] = {}
    splits = 0
    pieces = deque(
        (start, min(start + CHUNK_ROWS, len(frame))) for start in range(0, len(frame), CHUNK_ROWS)
    )
    while pieces:
        start, stop = pieces.popleft()
        try:
            answers = predict_answers(model, frame.iloc[start:stop])
        except ServiceError:
            raise
        except Exception as error:  # noqa: BLE001 - a model is foreign code and may raise anything
            if stop - start > 1 and splits < (_MAX_SPLITS if found else _MAX_IN_VAIN):
                middle = (start + stop) // 2
                pieces += [(start, middle), (middle, stop)]
                splits += 1
            else:
                text = f"{type(error).__name__}: {error}"[:_MAX_MESSAGE]
                refusals |= dict.fromkeys(range(start, stop), text)
            continue
        found.append((start, answers.reshape(stop - start, -1)))
    return Answers(_joined(found, len(frame), of), of, refusals)


def _joined(
    found: list[tuple[int, NDArray[np.float64]]], n: int, of: int | None
) -> NDArray[np.float64]:
    width = max((values.shape[1] for _, values in found), default=max(of or 0, 0) + 1)
    _require(of, width)
    joined = np.full((n, width), np.nan)
    for start, values in found:
        joined[start : start + len(values)] = values
    return joined


def _require(of: int | None, width: int) -> None:
    if of is not None and (width == 1 or not -width <= of < width):
        raise ModelError(
            f"Expected a model with several numbers a row, of which number {of} counts, got "
            f"{width}. Correct `of`, or leave it out."
        )
