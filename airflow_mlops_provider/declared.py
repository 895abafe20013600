"""What a model says it needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from airflow_mlops_provider.exceptions import ModelError

ASKED_WITH = ("mlflow", "pandas", "pyarrow", "fsspec")
"""What it takes to ask any model; the first three are what MLflow itself stands on."""


@dataclass(frozen=True)
class Declared:
    """What a model says it needs."""

    requirements: list[str]
    """As pip takes them."""
    python: str | None
    """Like ``3.12``; None for the version that runs this, or if it does not say."""

    def to_install(self, more: Sequence[str] = ASKED_WITH) -> list[str]:
        """Return the requirements, and of ``more`` what they do not name, as installed here."""
        named = {
            canonicalize_name(each.name) for line in self.requirements if (each := parsed(line))
        }
        if "mlflow-skinny" in named:
            named.add(canonicalize_name("mlflow"))
        missing = [f"{name}=={version(name)}" for name in more if name not in named]
        return [*self.requirements, *missing]


def declared_by(model_uri: str) -> Declared:
    """Return the requirements of a model's own files.

    Raises:
        ModelError: it has none.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        lines = _lines(mlflow.pyfunc.get_model_dependencies(model_uri))
        flavors = mlflow.models.get_model_info(model_uri).flavors
    except (MlflowException, OSError, KeyError) as error:
        raise ModelError(
            f"Expected a requirements.txt with {model_uri!r}, got: {error}. Log the model with "
            "`pip_requirements`."
        ) from error
    python = str(flavors.get("python_function", {}).get("python_version") or "")
    minor = ".".join(python.split(".")[:2])
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Declared(lines, None if minor in ("", ours) else minor)


def parsed(line: str) -> Requirement | None:
    """Return a line of a requirements file; None for an option, a comment, or another system."""
    try:
        requirement = Requirement(line.partition(" #")[0].strip())
    except InvalidRequirement:
        return None
    marker = requirement.marker
    return requirement if marker is None or marker.evaluate() else None


def _lines(file: str) -> list[str]:
    """Return the lines of a requirements file that say something."""
    lines = map(str.strip, Path(file).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]
