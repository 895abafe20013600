"""Python environments made once per list of requirements, and our package made importable there.

An environment is built in a folder of its own; a small file that names the folder is renamed
into place once it is complete. What a killed process leaves half-made is never used, and removed
by the next who builds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import airflow_mlops_provider
from airflow_mlops_provider.workspace import read_json, write_json

CACHE = Path.home() / ".cache" / "airflow-mlops" / "environments"
OUTSIDE: dict[str, str | None] = {
    **dict.fromkeys(("PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")),
    "PYTHONSAFEPATH": "1",
}
"""Environment variables of a process in an environment that is not ours; None is without."""
Build = Callable[[str, str, Sequence[str]], str]
"""Makes an environment in a folder, of an interpreter, with requirements; gives its interpreter."""


def environment_python(
    requirements: Sequence[str],
    build: Build,
    python_version: str | None = None,
    cache: Path = CACHE,
) -> str:
    """Return the interpreter of an environment with ``requirements``, made if need be.

    Args:
        requirements: As pip takes them; their order does not matter.
        build: Makes it; what it raises is passed on.
        python_version: Like ``3.12``, found on the path; by default the version that runs this.
        cache: Folder on this machine where environments are kept.
    """
    base = f"python{python_version}" if python_version else sys.executable
    key = hashlib.sha256(json.dumps([base, sorted(requirements)]).encode()).hexdigest()[:16]
    made = cache / f"{key}.json"
    with _alone(cache / f"{key}.lock"):
        python = Path(read_json(str(made))["python"]) if made.exists() else None
        if python is None or not python.exists():
            for abandoned in cache.glob(f"{key}-*"):
                shutil.rmtree(abandoned, ignore_errors=True)
            python = Path(build(str(cache / f"{key}-{uuid.uuid4().hex}"), base, requirements))
            write_json(str(made), {"python": str(python), "requirements": sorted(requirements)})
    return str(python)


def link_package(folder: Path) -> None:
    """Make our package importable from ``folder``, and nothing else.

    A link is all that the folder has of us: beside the package lies the whole of Airflow.
    """
    package = Path(airflow_mlops_provider.__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{uuid.uuid4().hex}"
    temporary.symlink_to(package)
    os.replace(temporary, folder / package.name)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process of this machine holds ``lock``, and hold it meanwhile."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
