"""Makes the environment that a model declares, and reports its interpreter.

The host starts it as ``python -m airflow_mlops_provider.serving.environment MODEL TRACKING_URI
[PACKAGE...]``: reading the model takes MLflow, which the host itself never loads.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from airflow_mlops_provider.declared import ASKED_WITH, declared_by
from airflow_mlops_provider.environments import environment_python

SERVED_WITH = (*ASKED_WITH, "packaging", "psutil", "pydantic", "starlette", "uvicorn")
"""What a scorer stands on beside its model."""


def declared_python(model_uri: str, tracking_uri: str, packages: Sequence[str] = ()) -> str:
    """Return the interpreter of an environment in which a model can be served.

    Args:
        model_uri: Model whose requirements it has.
        tracking_uri: Registry that the model comes from.
        packages: Names of what else it needs, as installed here.

    Raises:
        ModelError: the model declares nothing.
        subprocess.CalledProcessError: the installer failed; its words went to standard error.
    """
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    declared = declared_by(model_uri)
    requirements = declared.to_install((*SERVED_WITH, *packages))
    return environment_python(requirements, build, declared.python)


def build(folder: str, base: str, requirements: Sequence[str]) -> str:
    """Make an environment, by uv where it is installed, and return its interpreter."""
    python = f"{folder}/bin/python"
    if uv := shutil.which("uv"):
        _run(uv, "venv", "--quiet", "--python", base, folder)
        _run(uv, "pip", "install", "--quiet", "--python", python, *requirements)
    else:
        _run(base, "-m", "venv", folder)
        options = ("--quiet", "--disable-pip-version-check")
        _run(python, "-m", "pip", "install", *options, *requirements)
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603 - requirements of a registered model


def main(arguments: Sequence[str]) -> None:
    """Make the environment, and report its interpreter as one line of JSON."""
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what MLflow and the installer print joins the log
    model_uri, tracking_uri, *packages = arguments
    python = declared_python(model_uri, tracking_uri, packages)
    print(json.dumps({"python": python}), file=report, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
