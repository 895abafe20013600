"""Python environments of steps, made by Airflow's own mechanism."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from airflow_mlops_provider.environments import CACHE, environment_python
from airflow_mlops_provider.exceptions import StepFailedError


def virtualenv_python(
    requirements: Sequence[str], python_version: str | None = None, cache: Path = CACHE
) -> str:
    """Return the interpreter of an environment with ``requirements``, made if need be.

    Args:
        requirements: As pip takes them; their order does not matter.
        python_version: Like ``3.12``, found on the path (uv also downloads it); by default the
            version that runs this.
        cache: Folder on this machine where environments are kept.

    Raises:
        StepFailedError: the environment cannot be made.
    """
    return environment_python(requirements, _build, python_version, cache)


def _build(folder: str, base: str, requirements: Sequence[str]) -> str:
    from airflow.providers.standard.utils.python_virtualenv import prepare_virtualenv

    try:
        return prepare_virtualenv(
            venv_directory=folder,
            python_bin=base,
            system_site_packages=False,
            requirements=list(requirements),
        )
    except (subprocess.CalledProcessError, OSError) as error:
        raise StepFailedError(
            f"Cannot make an environment with {sorted(requirements)} for {base}: {error}. The log "
            "has what the installer said; correct `requirements` or `python_version`."
        ) from error
