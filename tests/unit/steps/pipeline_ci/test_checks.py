from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlops_provider.exceptions import DataError, PipelineStageError
from airflow_mlops_provider.records import PipelineCheck
from airflow_mlops_provider.steps.pipeline_ci.checks import Checks, check_build, require_passed
from airflow_mlops_provider.steps.pipeline_ci.commands import Commands
from airflow_mlops_provider.steps.pipeline_ci.reports import judge_dags, read_coverage, read_junit
from airflow_mlops_provider.steps.pipeline_ci.rooms import (
    dependencies,
    environment_of,
    furnish,
    keep_artifacts,
    passed_on,
)
from tests.forges import DAG, ENVIRONMENT, PYTHON


@pytest.fixture
def check(build, tmp_path):
    """Build a commit, run some of its checks, and return the report and the room."""

    def run(checks, **files):
        made = build(files=files)
        folder = tmp_path / "room"
        folder.mkdir()
        room = replace(furnish(made, folder), python=PYTHON)
        environment = {**ENVIRONMENT, **room.variables("dags")}
        commands = Commands("test", environment, room.artifacts, lambda line: None)
        return check_build(commands, made, checks, room), room, made

    return run


ONLY_TESTS = Checks(lint=None, dags=None)
ONLY_LINT = Checks(tests=None, dags=None)


def outcomes(report):
    return {each.name: each.outcome for each in report.checks}


def test_the_wheel_and_not_the_source_is_tested_and_reports_are_kept(check, tmp_path):
    test = "import shop\n\n\ndef test_place():\n    assert '/wheel/' in shop.__file__\n"
    report, room, made = check(ONLY_TESTS, **{"tests/test_place.py": test})
    assert outcomes(report) == {
        "tests": "passed",
        "lint": "skipped",
        "dags": "skipped",
        "features": "skipped",
    }
    assert (report.n_tests, report.n_failed, report.n_skipped) == (2, 0, 0)
    kept = keep_artifacts(room, made, str(tmp_path / "workspace"))
    assert {uri.rsplit("/", 1)[-1] for uri in kept} >= {"junit.xml", "tests.log"}
    require_passed("test", report.commit, report.checks)


def test_a_test_that_fails_is_named(check):
    report, _, _ = check(ONLY_TESTS, **{"shop/__init__.py": "def double(n):\n    return 3 * n\n"})
    assert (report.n_tests, report.n_failed) == (1, 1)
    with pytest.raises(PipelineStageError, match=r"(?s)test stage refused.*test_shop::test_double"):
        require_passed("test", report.commit, report.checks)


def test_a_test_that_ends_the_process_well_is_a_failure(check):
    test = "import os\n\n\ndef test_end():\n    os._exit(0)\n"
    report, _, _ = check(ONLY_TESTS, **{"tests/test_end.py": test})
    assert outcomes(report)["tests"] == "failed"


def test_lint_says_what_it_found(check):
    report, _, _ = check(ONLY_LINT, **{"shop/__init__.py": "import os\n"})
    (lint,) = [each for each in report.checks if each.name == "lint"]
    assert lint.outcome == "failed"
    assert "F401" in lint.reason


def test_tests_that_are_missing_are_a_failure(check):
    report, _, _ = check(Checks(lint=None, dags=None, tests="nowhere"))
    assert outcomes(report)["tests"] == "failed"


def test_dags_are_imported_by_airflow_itself(check):
    broken = "from airflow.sdk import DAG\nimport nothing_of_that_name\n"
    cycle = (
        "from airflow.sdk import DAG\n"
        "from airflow.providers.standard.operators.empty import EmptyOperator\n"
        "with DAG('round'):\n"
        "    a, b = EmptyOperator(task_id='a'), EmptyOperator(task_id='b')\n"
        "    a >> b >> a\n"
    )
    ends = "from airflow.sdk import DAG\nimport os\nos._exit(3)\n"
    files = {"broken": broken, "round": cycle, "ends": ends, "twice": DAG}
    report, _, _ = check(
        Checks(lint=None, tests=None), **{f"dags/{name}.py": code for name, code in files.items()}
    )
    (dags,) = [each for each in report.checks if each.name == "dags"]
    assert dags.outcome == "failed"
    assert "No module named 'nothing_of_that_name'" in dags.reason
    assert "Cycle" in dags.reason
    assert "ends.py does not import: its import ended the process (3)" in dags.reason
    assert "duplicate DAG id 'train' in ['train.py', 'twice.py']" in dags.reason


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        ({}, "no file has a DAG"),
        ({"a.py": {"error": None, "dags": {"x": 0}}}, "'x' has no task"),
        ({"a.py": {"error": "Traceback\nKeyError: 'k'", "dags": {}}}, "KeyError: 'k'"),
        (
            {f"{n}.py": {"error": None, "dags": {"x": 1}} for n in "ab"},
            r"duplicate DAG id 'x' in \['a.py', 'b.py'\]",
        ),
    ],
)
def test_dags_that_airflow_would_not_serve_fail(answers, match):
    with pytest.raises(PipelineStageError, match=match):
        require_passed("test", "0" * 40, [judge_dags(answers)])


def test_many_reasons_stay_short():
    answers = {f"{n}.py": {"error": "x" * 10_000, "dags": {}} for n in range(100)}
    assert len(judge_dags(answers).reason) < 3000


def test_every_failed_check_is_in_the_error():
    checks = [
        PipelineCheck(name=name, outcome=outcome, reason=f"{name} says")
        for name, outcome in [("lint", "failed"), ("tests", "passed"), ("dags", "failed")]
    ]
    with pytest.raises(PipelineStageError, match="lint says\n- dags: dags says") as caught:
        require_passed("test", "0" * 40, checks)
    assert "tests says" not in str(caught.value)


def test_reports_are_read(tmp_path):
    junit, coverage = tmp_path / "junit.xml", tmp_path / "coverage.xml"
    junit.write_text(
        '<testsuites><testsuite><testcase classname="a" name="ok"/>'
        '<testcase classname="a" name="no"><failure message="1 != 2&#10;more"/></testcase>'
        '<testcase classname="a" name="bad"><error message="boom"/></testcase>'
        '<testcase classname="a" name="later"><skipped/></testcase></testsuite></testsuites>'
    )
    coverage.write_text('<coverage line-rate="0.75"/>')
    tests = read_junit(junit)
    assert (tests.n, tests.n_failed, tests.n_skipped) == (4, 2, 1)
    assert tests.failures == ("a::no: 1 != 2", "a::bad: boom")
    assert read_coverage(coverage) == 0.75


@pytest.mark.parametrize("text", [None, "", "<testsuite"])
def test_reports_that_are_none_are_none(tmp_path, text):
    if text is not None:
        (tmp_path / "r.xml").write_text(text)
    assert read_junit(tmp_path / "r.xml") is None
    assert read_coverage(tmp_path / "r.xml") is None


@pytest.mark.parametrize(
    ("extras", "version", "expected"),
    [
        ([], None, ["numpy>=2"]),
        (["dev"], None, ["numpy>=2", "pytest"]),
        ([], "3.9", ["numpy>=2", "tomli"]),
    ],
)
def test_dependencies_are_those_that_hold(extras, version, expected):
    lines = ["numpy>=2", 'pytest; extra == "dev"', 'tomli; python_version < "3.10"']
    assert dependencies(lines, extras, version) == expected


@pytest.mark.slow
def test_a_dependency_that_does_not_resolve_is_refused(build, tmp_path):
    made = build()
    (tmp_path / "room").mkdir()
    room = furnish(made, tmp_path / "room")
    environment = {**ENVIRONMENT, "PIP_NO_INDEX": "1"}
    commands = Commands("test", environment, room.artifacts, lambda line: None)
    with pytest.raises(PipelineStageError, match="a dependency does not resolve"):
        environment_of(commands, made.commit, room, extras=(), cache=tmp_path / "cache")


def test_a_build_that_was_changed_since_is_refused(build, tmp_path):
    made = build()
    with open(made.wheel_uri, "ab") as wheel:
        wheel.write(b"more")
    (tmp_path / "room").mkdir()
    with pytest.raises(DataError, match="is not what was built"):
        furnish(made, tmp_path / "room")


def test_secrets_of_airflow_stay_out_of_the_environment():
    environment = {"AIRFLOW_CONN_X": "s", "AIRFLOW__CORE__FERNET_KEY": "s", "AWS_SECRET": "s"}
    kept = {"PATH": "/bin", "https_proxy": "http://p", "PIP_INDEX_URL": "https://i"}
    assert passed_on(environment | kept) == kept
