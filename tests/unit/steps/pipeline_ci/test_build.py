from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from airflow_mlops_provider.exceptions import PipelineStageError, StepFailedError
from airflow_mlops_provider.steps.pipeline_ci.build import require_installed
from airflow_mlops_provider.steps.pipeline_ci.commands import Ended
from airflow_mlops_provider.steps.pipeline_ci.source import wheel_requirements
from tests.forges import BACKEND, commands_in


def test_a_commit_becomes_a_wheel_with_its_provenance(build, forge):
    made = build()
    assert (made.name, made.version, made.builders["backend"]) == ("shop", "1.2", "tiny 7")
    assert made.commit == forge.git("rev-parse", "main")
    assert made.tree == forge.git("rev-parse", "main^{tree}")
    assert made.author == "Ada <ada@example.org>"
    assert made.wheel_uri.endswith("shop-1.2-py3-none-any.whl")
    with zipfile.ZipFile(made.wheel_uri) as wheel:
        assert "shop/__init__.py" in wheel.namelist()


def test_the_exact_commit_is_built_whatever_the_branch_is_at(build, forge):
    first = build()
    second = build(files={"shop/__init__.py": "def double(n):\n    return n + n\n"})
    assert first.wheel_sha256 != second.wheel_sha256
    assert first.commit != second.commit


def test_the_same_commit_gives_the_same_files(build, forge):
    first = build()
    assert build(commit=first.commit) == first


def test_a_wheel_that_does_not_build_is_refused_with_the_reason(build):
    broken = BACKEND.replace("return []", "raise RuntimeError('no compiler')")
    with pytest.raises(PipelineStageError, match=r"(?s)build stage refused.*no compiler"):
        build(files={"tiny.py": broken})


def test_a_wheel_that_is_none_is_refused(build):
    broken = BACKEND.replace("Generator: tiny 7", "Made-By: nobody")
    with pytest.raises(PipelineStageError, match=r"build stage refused.*Generator"):
        build(files={"tiny.py": broken})


def test_a_build_that_hangs_is_ended_and_refused(build):
    hanging = BACKEND.replace("return []", "import time; time.sleep(600)")
    with pytest.raises(PipelineStageError, match="was not done after 3 s"):
        build(files={"tiny.py": hanging}, seconds=3)


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        ("ERROR: No matching distribution found for numpy==99", PipelineStageError, "not resolve"),
        ("ERROR: ResolutionImpossible", PipelineStageError, "does not resolve"),
        ("SyntaxError: invalid syntax", PipelineStageError, "invalid syntax"),
        (
            "NewConnectionError: refused\nERROR: No matching distribution found for numpy",
            StepFailedError,
            "index does not answer",
        ),
    ],
)
def test_only_what_a_retry_may_help_is_retried(tmp_path, said, error, match):
    with pytest.raises(error, match=match):
        require_installed(commands_in(tmp_path), "0" * 40, Ended("install", 1, said))


def test_a_killed_command_is_retried(tmp_path):
    with pytest.raises(StepFailedError, match="killed by SIGKILL"):
        require_installed(commands_in(tmp_path), "0" * 40, Ended("install", 247, ""))


def test_dependencies_are_those_of_the_wheel(build):
    assert wheel_requirements(Path(build().wheel_uri)) == ["numpy"]
