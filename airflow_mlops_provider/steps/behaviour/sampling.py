"""Rows to try a model on, drawn from files of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.sources import parts_of


def columns_of(source: str) -> list[str]:
    """Return the columns of Parquet or CSV files.

    Raises:
        DataError: a file is gone or broken.
    """
    return list(dict.fromkeys(name for part in parts_of(source) for name in part.schema.names))


def sample(
    source: str,
    columns: Sequence[str],
    n: int,
    *,
    seed: int,
    keep: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Draw rows without replacement, in random order, with an index 0, 1, ...

    The first m of n rows are what a sample of m rows would be. The source is read in pieces.

    Args:
        source: Parquet or CSV files: a path, glob, folder or fsspec URI.
        columns: Columns to read.
        n: Rows to draw, at most all there are.
        seed: Of the draw.
        keep: Gives those rows of a piece that may be drawn.

    Raises:
        DataError: a file is gone or broken, lacks a column, or there are no rows.
    """
    rng = np.random.default_rng(seed)
    drawn, numbers = [], np.empty(0)
    for part in parts_of(source):
        for batch in part.batches(columns):
            piece: pd.DataFrame = batch.to_pandas()
            piece = keep(piece) if keep else piece
            if piece.empty:
                continue
            drawn.append(piece)
            numbers = np.concatenate([numbers, rng.random(len(piece))])
            if len(numbers) > 2 * n:
                first = np.sort(numbers.argsort()[:n])
                drawn = [pd.concat(drawn, ignore_index=True).iloc[first]]
                numbers = numbers[first]
    if not drawn:
        raise DataError(
            f"{source} has no rows to try the model on. Check its source, or choose another window."
        )
    rows: pd.DataFrame = pd.concat(drawn, ignore_index=True)
    return rows.iloc[numbers.argsort()[:n]].reset_index(drop=True)
