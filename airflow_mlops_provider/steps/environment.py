"""Which code and which packages a process runs."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.steps.metadata import ENVIRONMENT_FILE

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DIST_INFO = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)\.dist-info")


@cache
def environment() -> Mapping[str, Any]:
    """Return ``{"python": "3.11.7", "packages": {name: version}}`` of this interpreter.

    Names are normalized (PEP 503). They are read from the names of the ``.dist-info`` folders:
    ``importlib.metadata`` parses every file in them, a fifth of a second in each task.
    """
    packages: dict[str, str] = {}
    for folder in map(Path, sys.path):
        for found in folder.glob("*.dist-info") if folder.is_dir() else ():
            if match := _DIST_INFO.fullmatch(found.name):
                name = re.sub(r"[-_.]+", "-", match["name"]).lower()
                packages.setdefault(name, match["version"])
    return {"python": platform.python_version(), "packages": dict(sorted(packages.items()))}


def environment_hash(described: Mapping[str, Any]) -> str:
    """Return the sha256 of an environment as :func:`environment` describes it."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def log_environment(client: MlflowClient, run_id: str) -> None:
    """Keep the environment of this process as ``environment.json`` of a run."""
    client.log_dict(run_id, dict(environment()), ENVIRONMENT_FILE)


def git_commit(path: str) -> str | None:
    """Return the commit that is checked out where ``path`` lies; None if git knows nothing."""
    if shutil.which("git") is None:
        return None  # MLflow would warn of it in the log of every task
    from mlflow.utils.git_utils import get_git_commit

    commit = get_git_commit(path)
    return None if commit is None else str(commit)


def file_hash(path: str) -> str | None:
    """Return the sha256 of a file; None if there is none."""
    file = Path(path)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
