"""A forge on disk: a bare git repository, and a clone to push from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from airflow_mlops_provider.steps.pipeline_ci.commands import Commands
from airflow_mlops_provider.steps.pipeline_ci.git import Git
from airflow_mlops_provider.steps.pipeline_ci.rooms import passed_on

ENVIRONMENT = {
    **passed_on(os.environ),
    "GIT_CONFIG_GLOBAL": os.devnull,
    **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")},
}
BACKEND = """
import os, sys, zipfile

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(folder, config_settings=None, metadata_directory=None):
    about = "Metadata-Version: 2.1\\nName: shop\\nVersion: 1.2\\nRequires-Dist: numpy\\n"
    files = {
        "shop/__init__.py": open("shop/__init__.py").read(),
        "shop-1.2.dist-info/METADATA": about,
        "shop-1.2.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: tiny 7\\n"
        "Root-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files["shop-1.2.dist-info/RECORD"] = "".join(f"{name},,\\n" for name in files)
    with zipfile.ZipFile(os.path.join(folder, "shop-1.2-py3-none-any.whl"), "w") as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name), text)
    return "shop-1.2-py3-none-any.whl"
"""
"""A build backend of a few lines, for which nothing has to be installed."""
DAG = """
from airflow.sdk import DAG, task
from shop import double

with DAG("train"):
    @task
    def fit():
        return double(2)

    fit()
"""
TEST = """
from shop import double


def test_double():
    assert double(2) == 4
"""
PROJECT: dict[str, str | None] = {
    "pyproject.toml": """
[build-system]
requires = []
build-backend = "tiny"
backend-path = ["."]

[project]
name = "shop"
version = "1.2"
""",
    "tiny.py": BACKEND,
    "shop/__init__.py": "def double(n):\n    return 2 * n\n",
    "dags/train.py": DAG,
    "tests/test_shop.py": TEST,
}


class Forge:
    """A bare repository ``address`` with a branch ``main``, and who pushes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"file://{folder}/shop.git"
        self.clone = folder / "clone"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", folder / "shop.git", at=".")
        self.git("clone", "--quiet", self.address, self.clone, at=".")
        self.git("checkout", "--quiet", "-B", "main")

    def git(self, *arguments: str | Path, at: str = "clone") -> str:
        """Call git in a folder, and return its output."""
        return subprocess.run(
            ["git", *map(str, arguments)],
            cwd=self.folder / at,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def commit(self, files: dict[str, str | None], message: str = "change") -> str:
        """Commit files by path, None to delete, and return the hash."""
        for name, text in files.items():
            file = self.clone / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *options: str) -> None:
        """Push the branch."""
        self.git("push", "--quiet", *options, "origin", "main")

    def pushed(self, files: dict[str, str | None], message: str = "change") -> str:
        """Commit and push."""
        commit = self.commit(files, message)
        self.push()
        return commit


def git_of(address: str, folder: Path) -> Git:
    """Return what asks a repository, with its clone in ``folder``."""
    return Git(address, folder, ENVIRONMENT)


def commands_in(folder: Path, stage: str = "test", said: list[str] | None = None, **more: str):
    """Return what runs commands, with its logs in ``folder``."""
    say = (said if said is not None else []).append
    return Commands(stage, {**ENVIRONMENT, **more}, folder / "logs", say)


PYTHON = sys.executable
