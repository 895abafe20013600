"""How differently a model's decisions treat the groups of a column.

Demographic parity and equalized odds as in Agarwal et al. (2018) and Hardt, Price and Srebro
(2016): the extremes over the groups, by difference and by ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_mlops_provider.records import Fairness
from airflow_mlops_provider.steps.evaluate.slices import cut_rows
from airflow_mlops_provider.steps.metrics.confusion import BINARY, confusion_by_group

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlops_provider.steps.metrics.figures import Sample

MAX_GROUPS = 50
_FIGURES = ("selection_rate", "recall", "false_positive_rate")


def fairness_of(
    frame: pd.DataFrame, sample: Sample, columns: Sequence[str], min_rows: int
) -> list[Fairness]:
    """Compare the groups of each column that have at least ``min_rows`` rows.

    Columns with fewer than two such groups are left out.
    """
    found = []
    for column in columns:
        groups = _groups(frame, sample, column, min_rows)
        if len(groups) > 1:
            found.append(_compared(column, groups))
    return found


def _groups(
    frame: pd.DataFrame, sample: Sample, column: str, min_rows: int
) -> dict[str, dict[str, float]]:
    cut = cut_rows(frame, column)
    known = cut.codes >= 0
    tables = confusion_by_group(
        sample.label[known], sample.decided[known], cut.codes[known], len(cut.names)
    )
    groups = {}
    for name, table in zip(cut.names, tables, strict=True):
        if table.sum() >= max(min_rows, 1):
            figures = {each: BINARY[each].of_counts(table) for each in _FIGURES}
            rates = {each: found.value for each, found in figures.items() if found is not None}
            groups[name] = {"n": float(table.sum()), **rates}
    return groups


def _compared(column: str, groups: dict[str, dict[str, float]]) -> Fairness:
    chosen = [group["selection_rate"] for group in groups.values()]
    spreads = [_spread(groups, name) for name in ("recall", "false_positive_rate")]
    known = [spread for spread in spreads if spread is not None]
    shown = sorted(groups.items(), key=lambda each: each[1]["selection_rate"])
    if len(shown) > MAX_GROUPS:
        shown = [*shown[: MAX_GROUPS // 2], *shown[-MAX_GROUPS // 2 :]]
    return Fairness(
        column=column,
        groups=dict(shown),
        demographic_parity_difference=max(chosen) - min(chosen),
        demographic_parity_ratio=min(chosen) / max(chosen) if max(chosen) else 1.0,
        equalized_odds_difference=max(known) if len(known) == len(spreads) else None,
    )


def _spread(groups: dict[str, dict[str, float]], name: str) -> float | None:
    rates = [group.get(name) for group in groups.values()]
    known = [rate for rate in rates if rate is not None]
    return max(known) - min(known) if len(known) == len(rates) else None
