from __future__ import annotations

import re
import subprocess
from importlib import metadata

import pytest

from airflow_mlops_provider.steps.environment import (
    environment,
    environment_hash,
    file_hash,
    git_commit,
)


def test_packages_are_those_that_importlib_finds():
    expected = {
        re.sub(r"[-_.]+", "-", each.name).lower(): each.version
        for each in reversed(list(metadata.distributions()))
    }
    assert environment()["packages"] == expected


def test_one_version_more_is_another_environment():
    one = {"python": "3.11.7", "packages": {"a": "1", "b": "2"}}
    same = {"packages": {"b": "2", "a": "1"}, "python": "3.11.7"}
    other = {**one, "packages": {"a": "1", "b": "3"}}
    assert environment_hash(one) == environment_hash(same) != environment_hash(other)


def test_a_files_hash_follows_its_content(tmp_path):
    file = tmp_path / "dag.py"
    assert file_hash(str(file)) is None
    file.write_text("a")
    before = file_hash(str(file))
    file.write_text("b")
    assert before != file_hash(str(file))


@pytest.mark.parametrize("inside", [True, False])
def test_the_commit_is_that_of_the_folder(tmp_path, inside):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    if inside:
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert git_commit(str(tmp_path)) == (head.stdout.strip() if inside else None)
