"""A first look at the flights, as an analyst would take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.records import DatasetRef
from airflow_mlops_provider.steps.snapshot import read_dataset

if TYPE_CHECKING:
    import pandas as pd


def late_rates(dataset: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return late rates by airport and local hour, and the figures of the whole dataset."""
    flights = read_dataset(DatasetRef.from_xcom(dataset))
    table = (
        flights.groupby(["origin", "dep_hour"])["late"]
        .agg(late_rate="mean", flights="count")
        .reset_index()
    )
    summary = {
        "flights": float(len(flights)),
        "late_rate": float(flights["late"].mean()),
        "unlabelled_rate": float(flights["late"].isna().mean()),
    }
    return table, summary
