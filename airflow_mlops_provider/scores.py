"""How an answer of a model is read as one number: the same wherever answers are counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def numeric_score(output: Any) -> float | None:
    """Return an output of JSON values as one number, as evaluation does: of several, the last.

    What is no number, or too large for a float, is None.
    """
    while isinstance(output, Mapping | list):
        values = list(output.values()) if isinstance(output, Mapping) else output
        if not values:
            return None
        output = values[-1]
    try:
        return float(output) if isinstance(output, int | float) else None
    except OverflowError:
        return None
