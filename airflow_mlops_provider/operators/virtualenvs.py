"""Python environments made once per list of requirements, by Airflow's own mechanism.

An environment is built in a folder of its own; a small file that names the folder is renamed
into place once it is complete. What a killed task leaves half-made is never used, and removed
by the next who builds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from airflow_mlops_provider.exceptions import StepFailedError
from airflow_mlops_provider.workspace import read_json, write_json

CACHE = Path.home() / ".cache" / "airflow-mlops" / "environments"


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
    base = f"python{python_version}" if python_version else sys.executable
    key = hashlib.sha256(json.dumps([base, sorted(requirements)]).encode()).hexdigest()[:16]
    made = cache / f"{key}.json"
    with _alone(cache / f"{key}.lock"):
        python = Path(read_json(str(made))["python"]) if made.exists() else None
        if python is None or not python.exists():
            for abandoned in cache.glob(f"{key}-*"):
                shutil.rmtree(abandoned, ignore_errors=True)
            python = Path(_build(cache / f"{key}-{uuid.uuid4().hex}", base, requirements))
            write_json(str(made), {"python": str(python), "requirements": sorted(requirements)})
    return str(python)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process of this machine holds ``lock``, and hold it meanwhile."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(folder: Path, base: str, requirements: Sequence[str]) -> str:
    from airflow.providers.standard.utils.python_virtualenv import prepare_virtualenv

    try:
        return prepare_virtualenv(
            venv_directory=str(folder),
            python_bin=base,
            system_site_packages=False,
            requirements=list(requirements),
        )
    except (subprocess.CalledProcessError, OSError) as error:
        raise StepFailedError(
            f"Cannot make an environment with {sorted(requirements)} for {base}: {error}. The log "
            "has what the installer said; correct `requirements` or `python_version`."
        ) from error
