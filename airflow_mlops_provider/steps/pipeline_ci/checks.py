"""The checks of a build: lint, tests, integrity of its DAGs, plan of its feature repository."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import PipelineStageError
from airflow_mlops_provider.records import PipelineBuild, PipelineCheck, PipelineTestReport
from airflow_mlops_provider.steps.pipeline_ci.reports import (
    Tests,
    check_of,
    judge_dags,
    read_coverage,
    read_junit,
)

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.pipeline_ci.commands import Commands, Ended
    from airflow_mlops_provider.steps.pipeline_ci.rooms import Room

SCRIPTS = Path(__file__).parent / "scripts"
_QUICK_SECONDS = 60.0
_LONGEST = 1500
_HAS_COVERAGE = "import importlib.util as u, sys; sys.exit(u.find_spec('coverage') is None)"
_NO_TESTS = 5
"""Exit code of pytest that found none."""


@dataclass(frozen=True)
class Checks:
    """Which checks there are; None leaves one out."""

    lint: Sequence[str] | None = ("ruff", "check", ".")
    """A Python module and its arguments."""
    tests: str | None = "tests"
    """Folder or file for pytest."""
    dags: str | None = "dags"
    feature_repo: str | None = "feature_repo"
    min_coverage: float | None = None
    """Least share of lines in [0, 1]."""
    dag_seconds: float = 30
    """How long the import of one DAG file may take."""
    seconds: float = 1800
    """How long each check may take."""


def check_build(
    commands: Commands, build: PipelineBuild, checks: Checks, room: Room
) -> PipelineTestReport:
    """Run all checks, also after one failed, and report them.

    JUnit report, coverage report and logs are in ``room.artifacts``; ``artifacts`` of the report
    is left empty.

    Raises:
        StepFailedError: a check was killed; a retry may help.
    """
    tests, tested, coverage = _test(commands, checks, room)
    dags, found = _dags(commands, checks, room)
    return PipelineTestReport(
        commit=build.commit,
        wheel_sha256=build.wheel_sha256,
        checks=[
            _lint(commands, checks, room),
            tested,
            found,
            _features(commands, checks, room),
        ],
        n_tests=tests.n,
        n_failed=tests.n_failed,
        n_skipped=tests.n_skipped,
        coverage=coverage,
        dags=dags,
        artifacts=[],
    )


def require_passed(stage: str, commit: str, checks: Sequence[PipelineCheck]) -> None:
    """Pass if no check failed.

    Raises:
        PipelineStageError: one did; with stage and reasons.
    """
    failed = [each for each in checks if each.outcome == "failed"]
    if failed:
        told = "\n".join(f"- {each.name}: {each.reason}" for each in failed)
        raise PipelineStageError(
            f"The {stage} stage refused commit {commit[:12]}:\n{told}\nCorrect it in a new commit; "
            "logs and reports are artifacts of the task's MLflow run."
        )


def _lint(commands: Commands, checks: Checks, room: Room) -> PipelineCheck:
    if not checks.lint:
        return _left_out("lint")
    ended = commands.run(
        "lint",
        [room.python, "-m", *checks.lint],
        folder=room.source,
        seconds=checks.seconds,
    )
    return _of_command("lint", ended)


def _test(
    commands: Commands, checks: Checks, room: Room
) -> tuple[Tests, PipelineCheck, float | None]:
    if not checks.tests:
        return Tests(), _left_out("tests"), None
    if not (room.source / checks.tests).exists():
        return Tests(), check_of("tests", [f"there is no {checks.tests}"], ""), None
    junit, xml = room.artifacts / "junit.xml", room.artifacts / "coverage.xml"
    measured = _measures_coverage(commands, room)
    command = [room.python, "-m", *(("coverage", "run", "-m") if measured else ()), "pytest"]
    run = partial(commands.run, folder=room.source, seconds=checks.seconds)
    ended = run("tests", [*command, checks.tests, f"--junitxml={junit}"])
    if measured:
        run("coverage", [room.python, "-m", "coverage", "xml", "-o", xml])
    found, coverage = read_junit(junit), read_coverage(xml)
    problems = _test_problems(ended, found, coverage, checks)
    tests = found or Tests()
    check = check_of("tests", problems, f"{tests.n - tests.n_skipped} tests passed")
    return tests, check, coverage


def _test_problems(
    ended: Ended, tests: Tests | None, coverage: float | None, checks: Checks
) -> list[str]:
    if ended.code == _NO_TESTS and ended.seconds is None:
        return [f"{checks.tests} has no test"]
    if not ended.succeeded() or tests is None:  # a test may end the process, and with 0
        return list(tests.failures if tests else ()) or [_shortened(ended.reason())]
    if checks.min_coverage is None:
        return []
    if coverage is None:
        return ["coverage was not measured; the environment lacks the package `coverage`"]
    if coverage < checks.min_coverage:
        return [f"the tests reach {coverage:.1%} of the lines, not {checks.min_coverage:.1%}"]
    return []


def _measures_coverage(commands: Commands, room: Room) -> bool:
    asked = [room.python, "-c", _HAS_COVERAGE]
    return commands.run(
        "has coverage", asked, folder=room.source, seconds=_QUICK_SECONDS
    ).succeeded()


def _dags(commands: Commands, checks: Checks, room: Room) -> tuple[list[str], PipelineCheck]:
    if not checks.dags:
        return [], _left_out("dags")
    folder, answer = room.source / checks.dags, room.artifacts / "dags.json"
    if not folder.is_dir():
        return [], check_of("dags", [f"there is no folder {checks.dags}"], "")
    ended = commands.run(
        "dags",
        [room.python, SCRIPTS / "dag_files.py", folder, answer, str(checks.dag_seconds)],
        folder=room.source,
        seconds=checks.seconds,
    )
    if not ended.succeeded() or not answer.exists():
        return [], check_of("dags", [_shortened(ended.reason())], "")
    found = json.loads(answer.read_text())
    return sorted(dag for said in found.values() for dag in said["dags"]), judge_dags(found)


def _features(commands: Commands, checks: Checks, room: Room) -> PipelineCheck:
    if not checks.feature_repo or not (room.source / checks.feature_repo).is_dir():
        return _left_out("features")
    folder = room.source / checks.feature_repo
    ended = commands.run(
        "features",
        [room.python, SCRIPTS / "feature_plan.py", folder, room.workspace],
        folder=room.source,
        seconds=checks.seconds,
    )
    return _of_command("features", ended)


def _of_command(name: str, ended: Ended) -> PipelineCheck:
    if ended.succeeded():
        return PipelineCheck(name=name, outcome="passed", reason="")
    return check_of(name, [_shortened(ended.reason())], "")


def _shortened(text: str) -> str:
    """Leave out the middle of a long text."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 3]} … {text[-2 * _LONGEST // 3 :]}"


def _left_out(name: str) -> PipelineCheck:
    return PipelineCheck(name=name, outcome="skipped", reason="not asked for, or nothing there")
