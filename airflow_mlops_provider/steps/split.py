"""Cut a dataset into a part to learn from and a part to be judged on, without leaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import DatasetRef, SplitRef
from airflow_mlops_provider.steps.snapshot import read_dataset, read_table, write_table

if TYPE_CHECKING:
    import pandas as pd

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def split_dataset(
    dataset: DatasetRef,
    *,
    strategy: str,
    column: str,
    test_size: float,
    seed: int,
    workspace: str,
) -> SplitRef:
    """Write the two parts of ``dataset`` as ``{name}-train`` and ``{name}-test``.

    Each row lies in exactly one part, in the order it had.

    Args:
        dataset: What to cut.
        strategy: ``time``: the newest rows are the test, and rows of the same moment never lie
            on both sides; ``group``: nor do rows of the same group; ``stratified``: both parts
            keep the shares of the classes.
        column: Column of times, groups or classes, without missing values.
        test_size: Share of rows (``group``: of groups) in the test, between 0 and 1.
        seed: Seed of the shuffling strategies.
        workspace: fsspec URI of the workspace.

    Raises:
        DataError: the column is missing or has missing values, or a part would be empty.
        ParameterError: the strategy is unknown, or ``test_size`` is not between 0 and 1.
    """
    if strategy not in _STRATEGIES:
        raise ParameterError.of("strategy", "split_dataset", f"one of {[*_STRATEGIES]}", strategy)
    if not 0 < test_size < 1:
        raise ParameterError.of("test_size", "split_dataset", "between 0 and 1", test_size)
    table = read_table(dataset)
    values = _values(dataset, column)
    try:
        test = _STRATEGIES[strategy](values, test_size, seed)
    except ValueError as error:
        raise DataError(
            f"Cannot split {dataset.uri} by {strategy} on {column!r}: {error} Use another column, "
            "strategy or test_size."
        ) from error
    parts = {
        part: write_table(
            table.filter(mask),
            f"{dataset.name}-{part}",
            workspace,
            dataset.uri,
            window_start=dataset.window_start,
            window_end=dataset.window_end,
        )
        for part, mask in (("train", ~test), ("test", test))
    }
    return SplitRef(strategy=strategy, **parts)  # type: ignore[arg-type]  # checked above


def _values(dataset: DatasetRef, column: str) -> pd.Series[Any]:
    values = read_dataset(dataset, [column])[column]
    missing = int(values.isna().sum())
    if missing:
        raise DataError(
            f"Column {column!r} of {dataset.uri} has {missing} missing values, and rows without "
            "it belong to no part. Drop or fill them."
        )
    return values


def _newest(values: pd.Series[Any], test_size: float, _seed: int) -> Mask:
    ordered = np.sort(values.to_numpy())
    boundary = ordered[len(ordered) - max(1, round(test_size * len(ordered)))]
    masks = [(values >= boundary).to_numpy(), (values > boundary).to_numpy()]
    proper = [mask for mask in masks if mask.any() and not mask.all()]
    if not proper:
        raise ValueError(f"all rows have the value {boundary}.")
    return min(proper, key=lambda mask: abs(float(mask.mean()) - test_size))


def _whole_groups(values: pd.Series[Any], test_size: float, seed: int) -> Mask:
    splitter = GroupShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
    return _mask(next(splitter.split(values, groups=values))[1], len(values))


def _same_shares(values: pd.Series[Any], test_size: float, seed: int) -> Mask:
    rows = np.arange(len(values))
    test = train_test_split(rows, test_size=test_size, random_state=seed, stratify=values)[1]
    return _mask(test, len(values))


def _mask(rows: Any, n: int) -> Mask:
    mask = np.zeros(n, dtype=bool)
    mask[rows] = True
    return mask


_STRATEGIES: dict[str, Callable[[pd.Series[Any], float, int], Mask]] = {
    "time": _newest,
    "group": _whole_groups,
    "stratified": _same_shares,
}
