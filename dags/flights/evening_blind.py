"""What somebody put before a model of the flights, and what fails every evening."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_EVENING = 17


def plan(flights: pd.DataFrame) -> pd.DataFrame:
    """Return the flights as they are; one that leaves after five raises."""
    if (flights["dep_hour"] >= _EVENING).any():
        raise ValueError("no plan for the evening")
    return flights
