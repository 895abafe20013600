"""What a project folder holds beside its DAGs: tests, CI, version control."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from airflow_mlops_provider.steps.doctor.facts import CiFile, FileFacts

_ROOT_MARKS = (".git", "pyproject.toml")
_CI_FILES = (
    ".github/workflows/*.y*ml",
    ".gitlab-ci.yml",
    ".circleci/config.yml",
    ".ci/*",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "cloudbuild.yaml",
    "Jenkinsfile",
)
_TESTS = re.compile(r"\b(pytest|unittest|tox|nox|make test\S*|make check)\b")
_BUILDS = re.compile(
    r"\b(python3? -m build|pip wheel|uv (build|sync)|poetry (build|install)|hatch build"
    r"|docker build\S*|build-push-action"
    r"|pip install(?:\\\n|[^\n;&|])*?\s(-e|--editable|['\"]?\.)(?![\w/]))"
)
"""To install the project is to build it; pip makes a wheel of it first."""
_MAKE = re.compile(r"\bmake\b")
_TEST_FOLDERS = {"test", "tests"}
_INTEGRATION = {"integration", "dags", "e2e", "system"}
_NOT_OURS = {"node_modules", "site-packages", "build", "dist"}


def project_folder(dags: Path) -> Path:
    """Return the folder a DAGs folder belongs to.

    It is the nearest one that is a git repository or has a ``pyproject.toml``, or else the DAGs
    folder itself.
    """
    dags = dags.resolve()
    for folder in (dags, *dags.parents):
        if any((folder / mark).exists() for mark in _ROOT_MARKS):
            return folder
    return dags


def read_files(project: Path) -> FileFacts:
    """Return what lies in a project folder; hidden folders are not searched for tests."""
    tests = list(_tests(project, project))
    integration = [each for each in tests if _INTEGRATION.intersection(Path(each).parent.parts)]
    return FileFacts(
        git=(project / ".git").exists(),
        unit_tests=[each for each in tests if each not in integration],
        integration_tests=integration,
        ci=list(_ci_files(project)),
    )


def _tests(folder: Path, project: Path) -> Iterator[str]:
    for found in sorted(folder.iterdir()):
        if found.is_symlink() or found.name.startswith(".") or found.name in _NOT_OURS:
            continue
        if found.is_dir():
            if not (found / "pyvenv.cfg").exists():
                yield from _tests(found, project)
        elif _is_test(path := found.relative_to(project)):
            yield path.as_posix()


def _is_test(path: Path) -> bool:
    if path.name.endswith("_test.py"):
        return not _TEST_FOLDERS.isdisjoint(path.parts)
    return path.name.startswith("test_") and path.suffix == ".py"


def _ci_files(project: Path) -> Iterator[CiFile]:
    makefile = project / "Makefile"
    made = makefile.read_text(errors="replace") if makefile.is_file() else ""
    for pattern in _CI_FILES:
        for found in sorted(project.glob(pattern)):
            if found.is_file():
                text = found.read_text(errors="replace")
                if _MAKE.search(text):
                    text += made
                yield CiFile(
                    path=found.relative_to(project).as_posix(),
                    tests=bool(_TESTS.search(text)),
                    builds=bool(_BUILDS.search(text)),
                )
