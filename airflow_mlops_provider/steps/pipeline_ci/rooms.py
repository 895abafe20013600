"""Where a build is tried: its files, its wheel, an interpreter with its dependencies.

The wheel is not installed but unpacked on the path, beside an environment of its dependencies that
all commits share which ask for the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from airflow_mlops_provider.environments import CACHE, environment_python
from airflow_mlops_provider.exceptions import StepFailedError
from airflow_mlops_provider.steps.pipeline_ci.build import require_installed
from airflow_mlops_provider.steps.pipeline_ci.source import (
    copied,
    keep,
    unpack_source,
    unpack_wheel,
    wheel_requirements,
)
from airflow_mlops_provider.workspace import file_hash, join

if TYPE_CHECKING:
    from airflow_mlops_provider.records import PipelineBuild
    from airflow_mlops_provider.steps.pipeline_ci.commands import Commands

_PASSED = ("HOME", "LANG", "LC_ALL", "PATH", "REQUESTS_CA_BUNDLE", "TMPDIR", "USER")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_PREFIXES = ("GIT_", "PIP_", "SSH_", "SSL_CERT_", "UV_")
_QUIET = {
    "DO_NOT_TRACK": "1",
    "FEAST_USAGE": "False",
    "GX_ANALYTICS_ENABLED": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class Room:
    """A folder in which a build is tried."""

    folder: Path
    wheel: Path
    python: str = ""
    """An interpreter with the dependencies; empty until there is one."""

    @property
    def source(self) -> Path:
        """The files of the commit."""
        return self.folder / "source"

    @property
    def artifacts(self) -> Path:
        """What is kept when the room is left: reports and logs."""
        return self.folder / "artifacts"

    @property
    def workspace(self) -> Path:
        """An empty workspace of the provider."""
        return self.folder / "workspace"

    def variables(self, dags: str | None) -> dict[str, str]:
        """Return environment variables: an Airflow of its own, and the wheel to import."""
        return {
            **_QUIET,
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.source / (dags or "dags")),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__MLOPS__WORKSPACE": str(self.workspace),
            "PYTHONPATH": str(self.folder / "wheel"),
            "PYTHONSAFEPATH": "1",  # else the source would hide the wheel
        }


def furnish(build: PipelineBuild, folder: Path) -> Room:
    """Bring a build from the workspace into an empty folder.

    Raises:
        DataError: the files are gone, or are not those that were built.
    """
    archive = copied(build.source_uri, build.source_sha256, folder / "source.tar.gz")
    wheel = copied(build.wheel_uri, build.wheel_sha256, folder / build.wheel_uri.split("/")[-1])
    room = Room(folder, wheel)
    unpack_source(archive, room.source)
    unpack_wheel(wheel, folder / "wheel")
    room.artifacts.mkdir(exist_ok=True)
    room.workspace.mkdir()
    return room


def environment_of(
    commands: Commands,
    commit: str,
    room: Room,
    *,
    extras: Sequence[str],
    requirements: Sequence[str] = (),
    constraints: str | None = None,
    python_version: str | None = None,
    cache: Path = CACHE,
    seconds: float = 1800,
) -> str:
    """Return an interpreter that has what a wheel depends on, made if there is none yet.

    Args:
        commands: Runs the installer.
        commit: For errors.
        room: Where the build is.
        extras: Those of the wheel that count.
        requirements: What else to install, as pip takes it.
        constraints: A file of pip's constraints: in the repository, or a path or fsspec URI.
        python_version: Like ``3.12``, found on the path; by default the version that runs this.
        cache: Folder on this machine where environments are kept.
        seconds: How long the installation may take.

    Raises:
        PipelineStageError: a dependency does not resolve or install.
        StepFailedError: the package index does not answer, or there is no such Python.
    """
    asked = [*dependencies(wheel_requirements(room.wheel), extras, python_version), *requirements]
    if constraints:
        inside = room.source / constraints
        asked.append(_constraint(str(inside) if inside.is_file() else constraints, cache))

    def make(folder: str, base: str, wanted: Sequence[str]) -> str:
        python = os.path.join(folder, "bin", "python")
        pip = [python, "-m", "pip", "install", "--disable-pip-version-check", *wanted]
        run = partial(commands.run, folder=room.folder, seconds=seconds)
        made = run("environment", [base, "-m", "venv", folder])
        if not made.succeeded():
            raise StepFailedError(f"Cannot make an environment of {base}: {made.reason()}")
        require_installed(commands, commit, run("install", pip))
        return python

    return environment_python(asked, make, python_version, cache)


def dependencies(
    requirements: Sequence[str], extras: Sequence[str], python_version: str | None = None
) -> list[str]:
    """Return those of a wheel's ``Requires-Dist`` that hold here, without their markers.

    Args:
        requirements: Lines of ``Requires-Dist``.
        extras: Those of the wheel that are asked for.
        python_version: Like ``3.12``; by default the version that runs this.
    """
    given: dict[str, str] = {"python_version": python_version} if python_version else {}
    found = []
    for line in requirements:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            found.append(line)  # the installer says what is wrong with it
            continue
        marker, requirement.marker = requirement.marker, None
        if marker is None or any(marker.evaluate({**given, "extra": e}) for e in ("", *extras)):
            found.append(str(requirement))
    return found


def keep_artifacts(room: Room, build: PipelineBuild, workspace: str) -> list[str]:
    """Keep reports and logs in the workspace, each under its content; return their URIs."""
    folder = join(workspace, "pipelines", "reports", build.commit)
    return [
        keep(str(file), join(folder, file_hash(str(file))[:16], file.name))
        for file in sorted(room.artifacts.rglob("*"))
        if file.is_file()
    ]


def _constraint(uri: str, cache: Path) -> str:
    """Return pip's option for a file, under a name that changes when it does."""
    copy = cache / f"constraints-{file_hash(uri)[:16]}.txt"
    return f"--constraint={keep(uri, str(copy))}"


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of a worker's environment the commands of a stage get.

    Airflow's configuration and Connections stay here: what runs is the code of whoever may push.
    """
    return {
        name: value
        for name, value in environment.items()
        if name in _PASSED or name.upper() in _PROXIES or name.startswith(_PREFIXES)
    }
