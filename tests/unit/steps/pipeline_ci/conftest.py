from __future__ import annotations

import pytest

from airflow_mlops_provider.steps.pipeline_ci.build import build_pipeline
from tests.forges import PROJECT, PYTHON, Forge, commands_in, git_of


@pytest.fixture
def forge(tmp_path):
    return Forge(tmp_path)


@pytest.fixture
def build(forge, tmp_path):
    """Build a commit, by default one that is pushed with changed files; return the record."""

    def make(**changes):
        files = {**PROJECT, **changes.pop("files", {})}
        commit = changes.pop("commit", None) or forge.pushed(files)
        folder = tmp_path / f"build-{commit}"
        folder.mkdir(exist_ok=True)
        return build_pipeline(
            commands_in(folder, "build"),
            git_of(forge.address, folder / "git"),
            commit,
            python=PYTHON,
            workspace=str(tmp_path / "workspace"),
            folder=folder,
            isolation=False,
            **changes,
        )

    return make
