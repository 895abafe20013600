"""From the facts of a project to its levels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_mlops_provider.records.maturity import CriterionResult, MaturityReport, SchemeResult
from airflow_mlops_provider.steps.doctor.google import GOOGLE
from airflow_mlops_provider.steps.doctor.microsoft import MICROSOFT

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.doctor.facts import ProjectFacts
    from airflow_mlops_provider.steps.doctor.scheme import Criterion, Scheme

SCHEMES = (GOOGLE, MICROSOFT)
_MOST_EVIDENCE = 5
"""Pieces of evidence kept of a criterion; how many more there are is said."""


def judge(facts: ProjectFacts, project: str) -> MaturityReport:
    """Return which level of each scheme the facts of a project show.

    A level is reached when all that it and the levels below it require is met. What a silent
    service would show is unknown: it lowers ``level``, but not ``possible_level``.

    Args:
        facts: What its DAGs, files and services show.
        project: Its folder, as the report is to name it.
    """
    return MaturityReport(
        project=project,
        n_dags=len(facts.dags),
        import_errors=facts.import_errors,
        services={name: each.reason or each.state for name, each in sorted(facts.services.items())},
        schemes=[judge_scheme(scheme, facts) for scheme in SCHEMES],
    )


def judge_scheme(scheme: Scheme, facts: ProjectFacts) -> SchemeResult:
    """Return which level of one scheme the facts show."""
    results = [_result(criterion, facts) for criterion in scheme.criteria]
    highest = len(scheme.titles) - 1
    return SchemeResult(
        name=scheme.name,
        url=scheme.url,
        level=_level(results, highest, {"met"}),
        possible_level=_level(results, highest, {"met", "unknown"}),
        highest_level=highest,
        titles=list(scheme.titles),
        criteria=results,
    )


def lacking(result: SchemeResult, level: int) -> list[CriterionResult]:
    """Return what a level requires and is not met."""
    return [
        each
        for each in result.criteria
        if each.level == level and each.required and each.status != "met"
    ]


def _level(results: list[CriterionResult], highest: int, good: Collection[str]) -> int:
    barred = [each.level for each in results if each.required and each.status not in good]
    return min(barred, default=highest + 1) - 1


def _result(criterion: Criterion, facts: ProjectFacts) -> CriterionResult:
    answer = criterion.probe(facts)
    result = CriterionResult(
        level=criterion.level,
        name=criterion.name,
        asks=criterion.asks,
        status=answer.status,
        required=criterion.required,
        evidence=list(answer.evidence),
        reason=answer.reason,
        source=criterion.source,
        remedy=criterion.remedy,
    )
    more = len(result.evidence) - _MOST_EVIDENCE
    if more <= 0:
        return result
    return replace(result, evidence=[*result.evidence[:_MOST_EVIDENCE], f"and {more} more"])
