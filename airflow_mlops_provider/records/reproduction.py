"""What training a model again showed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from airflow_mlops_provider.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Record):
    """One thing that is not as it was recorded."""

    kind: Literal[
        "environment", "dataset", "code", "parameter", "predictions", "metric", "evaluation"
    ]
    name: str
    recorded: str
    found: str
    matters: bool = True
    """Whether the model can no longer be called the same; others are told for the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionComparison(Record):
    """The predictions of two models on the rows that both learned from."""

    n: int
    differing: int
    largest: float | None
    """Largest absolute difference; None if it is infinite, or they are no
    floats or of another shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproductionReport(Record):
    """Whether training again gave the same model, and if not, what differs.

    ``identical``: nothing that matters differs, and all predictions and metrics are equal to the
    last bit. ``cannot``: it could not be trained again, or not be compared; ``reason`` says why.
    """

    outcome: Literal["identical", "differs", "cannot"]
    run_id: str
    model_uri: str
    differences: list[Difference]
    predictions: PredictionComparison | None
    deterministic: bool | None
    """Whether two trainings here give the same predictions; None if that was not asked."""
    checked: list[str]
    """Which metrics and evaluations were compared."""
    code: dict[str, str]
    """Git commit, bundle and DAG version that were recorded."""
    not_compared: list[str]
    """What was not recorded, or is gone by now."""
    reproduced_run_id: str | None
    reason: str | None = None
