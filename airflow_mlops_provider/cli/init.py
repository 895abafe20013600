"""``airflow-mlops init``: make a pipeline repository that works, for a team to start from."""

from __future__ import annotations

import argparse
import keyword
import os
import re
import shutil
import sys
import uuid
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from airflow_mlops_provider import __version__
from airflow_mlops_provider.exceptions import ParameterError

_NAME = re.compile(r"[a-z][a-z0-9_]{1,29}")
_TAKEN = {"airflow", "conftest", "dags", "feast", "feature_repo", "mlflow", "suites", "tests"}
_SUFFIX = ".tmpl"
_PLACES = {"gitignore": ".gitignore", "github/ci.yml": ".github/workflows/ci.yml"}
"""Files that would mean something to this very repository under their own names."""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("init", help="make a new pipeline repository")
    parser.add_argument(
        "name", metavar="NAME", help="of the folder and the package, like churn_model"
    )
    parser.add_argument("--into", type=Path, default=Path(), help="where to make it; by default .")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make the repository, and say how to go on."""
    folder = make_project(options.name, options.into)
    print(f"Made {folder}. Go on with:\n  cd {folder}\n  git init\n  make test")
    return 0


def make_project(name: str, into: Path) -> Path:
    """Make the folder ``into/name``, whole or not at all, and return it.

    Args:
        name: Also that of the package: lower-case letters, digits and ``_``.
        into: Folder, made if need be.

    Raises:
        ParameterError: the name cannot be a package's, or something lies at its place.
    """
    target = into / _checked(name)
    if os.path.lexists(target):
        raise ParameterError(
            f"{target} exists, and would be overwritten. Choose another name, or move it away."
        )
    temporary = into / f".{name}.{uuid.uuid4().hex}.tmp"
    words = {
        "package": name,
        "distribution": name.replace("_", "-"),
        "endpoint": name.replace("_", "-"),
        "version": __version__,
    }
    try:
        _write(files("airflow_mlops_provider") / "project_template", "", temporary, words)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _write(template: Traversable, place: str, folder: Path, words: dict[str, str]) -> None:
    """Write each template below ``place`` to its place in ``folder``."""
    for each in template.iterdir():
        inside = f"{place}{each.name}"
        if each.is_dir():
            _write(each, f"{inside}/", folder, words)
        elif inside.endswith(_SUFFIX):
            inside = inside.removesuffix(_SUFFIX)
            file = folder / _PLACES.get(
                inside, re.sub(r"^package/", f"{words['package']}/", inside)
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            text = each.read_text(encoding="utf-8")
            file.write_text(re.sub(r"@(\w+)@", lambda word: words[word[1]], text), encoding="utf-8")


def _checked(name: str) -> str:
    taken = keyword.iskeyword(name) or name in sys.stdlib_module_names or name in _TAKEN
    if taken or not _NAME.fullmatch(name):
        constraint = (
            "2 to 30 lower-case letters, digits and '_', beginning with a letter, and no name "
            "that Python or the project itself uses"
        )
        raise ParameterError.of("name", "airflow-mlops init", constraint, name)
    return name
