"""What JUnit and coverage reports and the answers of the scripts say, in few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from airflow_mlops_provider.records import PipelineCheck

SHOWN = 5
_LONGEST = 300


@dataclass(frozen=True)
class Tests:
    """Counts of a JUnit report, and the first failures."""

    n: int = 0
    n_failed: int = 0
    n_skipped: int = 0
    failures: tuple[str, ...] = ()


def read_junit(file: Path) -> Tests | None:
    """Read a JUnit report; None if there is none that can be read."""
    root = _xml(file)
    if root is None:
        return None
    cases = list(root.iter("testcase"))
    failed = [case for case in cases if _problem(case) is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    told = tuple(
        f"{case.get('classname')}::{case.get('name')}: {_first_line(_problem(case))}"[:_LONGEST]
        for case in failed[:SHOWN]
    )
    return Tests(len(cases), len(failed), len(skipped), told)


def read_coverage(file: Path) -> float | None:
    """Return the share of lines of a Cobertura report; None if there is none."""
    root = _xml(file)
    rate = None if root is None else root.get("line-rate")
    return None if rate is None else float(rate)


def judge_dags(answers: Mapping[str, Mapping[str, Any]]) -> PipelineCheck:
    """Judge what each DAG file said.

    Args:
        answers: By file: ``error`` (text or None) and ``dags`` (number of tasks by DAG id).
    """
    problems = [
        f"{file} does not import: {_last_lines(said['error'])}"
        for file, said in answers.items()
        if said["error"]
    ]
    ids = Counter(dag for said in answers.values() for dag in said["dags"])
    for dag in sorted(each for each, n in ids.items() if n > 1):
        files = [file for file, said in answers.items() if dag in said["dags"]]
        problems.append(f"duplicate DAG id {dag!r} in {files}")
    empty = [dag for said in answers.values() for dag, n in said["dags"].items() if not n]
    problems += [f"DAG {dag!r} has no task" for dag in empty]
    if not ids and not problems:
        problems.append("no file has a DAG")
    found = f"{len(ids)} DAGs in {len(answers)} files"
    return check_of("dags", problems, found)


def check_of(name: str, problems: list[str], found: str) -> PipelineCheck:
    """Return a check that failed for its problems, or passed with what was found."""
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return PipelineCheck(
        name=name,
        outcome="failed" if problems else "passed",
        reason="; ".join([*problems[:SHOWN], *more]) or found,
    )


def _xml(file: Path) -> ElementTree.Element | None:
    try:
        return ElementTree.parse(file).getroot()  # noqa: S314 - entities that explode are refused by expat
    except (FileNotFoundError, ElementTree.ParseError):
        return None


def _problem(case: ElementTree.Element) -> ElementTree.Element | None:
    found = case.find("failure")
    return case.find("error") if found is None else found


def _first_line(problem: ElementTree.Element | None) -> str:
    text = "" if problem is None else problem.get("message") or problem.text or ""
    return text.strip().partition("\n")[0]


def _last_lines(text: str) -> str:
    return " / ".join(line.strip() for line in text.strip().splitlines()[-2:])[-_LONGEST:]
