"""``airflow-mlops init``: what it makes, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

from airflow_mlops_provider import __version__, cli
from airflow_mlops_provider.cli import init
from airflow_mlops_provider.cli.init import make_project
from airflow_mlops_provider.exceptions import ParameterError


@pytest.fixture(params=["ab", "churn_model_of_thirty_letters_"])
def project(request, tmp_path):
    return make_project(request.param, tmp_path)


def test_it_makes_a_whole_repository(tmp_path, capsys):
    assert cli.main(["init", "churn_model", "--into", str(tmp_path)]) == 0
    folder = tmp_path / "churn_model"
    made = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert made >= {
        ".github/workflows/ci.yml",
        ".gitignore",
        "Makefile",
        "README.md",
        "churn_model/data.py",
        "dags/train.py",
        "feature_repo/feature_store.yaml",
        "pyproject.toml",
        "suites/tumours.yaml",
        "tests/integration/test_train.py",
        "tests/unit/test_dags.py",
    }
    assert str(folder) in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["churn_model"]


def test_no_placeholder_is_left(project):
    texts = [file.read_text() for file in project.rglob("*") if file.is_file()]
    assert not [text for text in texts if "@package@" in text or "@distribution@" in text]


def test_it_names_package_and_provider(project):
    about = tomllib.loads((project / "pyproject.toml").read_text())
    assert about["project"]["name"] == project.name.replace("_", "-")
    assert about["project"]["dependencies"] == [f"airflow-provider-mlops[serving]>={__version__}"]


def test_ci_runs_what_the_makefile_has(project):
    workflow = yaml.safe_load((project / ".github" / "workflows" / "ci.yml").read_text())
    targets = workflow["jobs"]["check"]["strategy"]["matrix"]["target"]
    assert targets == ["lint", "unit", "integration", "build"]
    makefile = (project / "Makefile").read_text()
    assert all(f"\n{target}: " in makefile for target in targets)


def test_it_passes_its_own_lint(project):
    command = ["make", "lint", f"PYTHON={sys.executable}"]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(
    "name",
    ["", "1st", "Churn", "a-b", "../out", "a/b", "class", "json", "airflow", "tests", "a" * 31],
)
def test_names_that_are_no_package_are_refused(name, tmp_path):
    with pytest.raises(ParameterError, match="name parameter"):
        make_project(name, tmp_path / "in")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_nothing_is_overwritten(make, tmp_path):
    make(tmp_path / "churn")
    with pytest.raises(ParameterError, match="would be overwritten"):
        make_project("churn", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["churn"]


def test_a_failure_leaves_nothing(tmp_path):
    real = init._write

    def fail_at_the_end(*given):
        real(*given)
        raise OSError("disk full")

    with patch.object(init, "_write", fail_at_the_end), pytest.raises(OSError, match="disk full"):
        make_project("churn", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_it_passes_its_own_tests(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    project = make_project("churn_model", tmp_path)
    command = ["make", "test", f"PYTHON={sys.executable}"]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-4000:]
