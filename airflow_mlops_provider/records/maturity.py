"""How far a project has come by the published maturity models of MLOps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from airflow_mlops_provider.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionResult(Record):
    """One thing a maturity level asks for, and what the project shows of it."""

    level: int
    name: str
    asks: str
    status: Literal["met", "missing", "unknown"]
    """``unknown``: a service that would show it did not answer."""
    required: bool
    """Whether the level depends on it; the others are advice of the source."""
    evidence: list[str]
    """``file:dag:task (operator)``, a file of the project, or what a service said."""
    reason: str | None
    """What was looked for in vain, or which service is unknown."""
    source: str
    """Section of the page that asks for it."""
    remedy: str
    """Operator, command or page of the documentation that brings it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeResult(Record):
    """A maturity model applied to a project."""

    name: str
    url: str
    level: int
    """The highest level that is shown, with all below it."""
    possible_level: int
    """The level it would be if everything unknown were met."""
    highest_level: int
    titles: list[str]
    """Of the levels, from 0."""
    criteria: list[CriterionResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaturityReport(Record):
    """What ``airflow-mlops doctor`` found."""

    project: str
    n_dags: int
    import_errors: dict[str, str]
    """Last line of the error, by DAG file."""
    services: dict[str, str]
    """``answered``, or why it is unknown."""
    schemes: list[SchemeResult]
