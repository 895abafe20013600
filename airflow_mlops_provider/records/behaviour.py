"""How a model behaves when its inputs are changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from airflow_mlops_provider.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterexample(Record):
    """One row that breaks a test; values as text, at most 80 characters."""

    inputs: dict[str, str]
    """At most 20 features of the row, those that were changed first."""
    changed: dict[str, str]
    """What became of those that were changed; at most 20."""
    before: float | None
    """The answer to compare with: of the row as it was, logged, or served; None for none."""
    after: float | None
    """The answer that breaks the test; None if it is no finite number."""
    note: str
    """Which change it was, and what the model said if it gave no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourResult(Record):
    """How one behavioural test ended."""

    name: str
    kind: str
    severity: Literal["critical", "warning"]
    outcome: Literal["passed", "failed", "errored"]
    """``errored``: the test itself could not be run (a missing column, say)."""
    n: int
    """Rows that were changed and compared."""
    failures: int
    """Of these, rows that break the relation."""
    rate: float | None
    """``failures / n``; None if nothing was compared."""
    rate_high: float | None
    """Upper end of its one-sided 95 % interval (Clopper-Pearson); None if rows are made up."""
    max_failure_rate: float
    mean_shift: float | None
    """Mean of the answers after the change minus before it."""
    detail: str
    counterexamples: list[Counterexample] = field(default_factory=list)
    """At most 5, the worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourReport(Record):
    """What behavioural tests say of a model."""

    model_uri: str
    dataset_uri: str
    suite: str
    outcome: Literal["passed", "failed"]
    """``failed`` if a critical test failed or could not be run."""
    n_tests: int
    n_failed: int
    n_errored: int
    tests: list[BehaviourResult] = field(default_factory=list)
    """At most 50, those that did not pass first, the critical before the others."""
    report_uri: str | None = None
    """JSON with this report and the results of all tests."""
