"""Build the wheel of one exact commit, by the build backend that its project names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import DataError, StepFailedError
from airflow_mlops_provider.records import PipelineBuild
from airflow_mlops_provider.steps.pipeline_ci.source import keep, unpack_source, wheel_facts
from airflow_mlops_provider.workspace import file_hash, join

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.pipeline_ci.commands import Commands, Ended
    from airflow_mlops_provider.steps.pipeline_ci.git import Git

_VERSIONS = (
    "import json, platform, build; "
    "print(json.dumps({'python': platform.python_version(), 'build': build.__version__}))"
)
_NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|Read timed out|Connection (refused|reset)"
    r"|Network is unreachable|Name or service not known|Temporary failure in name resolution"
    r"|error sending request",
    re.IGNORECASE,
)
_UNRESOLVED = re.compile(
    r"No matching distribution|ResolutionImpossible|conflicting dependencies"
    r"|No solution found|Missing dependencies|Invalid requirement",
    re.IGNORECASE,
)
_QUICK_SECONDS = 60.0


def build_pipeline(
    commands: Commands,
    git: Git,
    commit: str,
    *,
    python: str,
    workspace: str,
    folder: Path,
    isolation: bool = True,
    seconds: float = 600,
) -> PipelineBuild:
    """Build the wheel of a commit, and keep it and the commit's files in the workspace.

    The backend is told the time of the commit (``SOURCE_DATE_EPOCH``), so that most give the same
    bytes each time.

    Args:
        commands: Runs the build.
        git: The repository.
        commit: Its full hash.
        python: An interpreter that has ``build``.
        workspace: fsspec URI; wheels and sources lie below ``pipelines/`` by their content.
        folder: An empty folder to work in.
        isolation: Let ``build`` install the backend into an environment of its own; False takes
            what ``python`` has.
        seconds: How long the build may take.

    Raises:
        PipelineStageError: the wheel does not build, or its build requirements do not resolve.
        DataError: the repository does not have the commit.
        ServiceError: the repository or the package index does not answer.
    """
    info = git.info(commit)
    source, archive = folder / "source", folder / "source.tar.gz"
    git.archive(commit, archive)
    unpack_source(archive, source)
    made = datetime.fromisoformat(info.committed_at).timestamp()
    command: list[str | Path] = [python, "-m", "build", "--wheel", "--outdir", folder / "dist"]
    ended = commands.run(
        "build",
        [*command, *([] if isolation else ["--no-isolation"]), source],
        folder=folder,
        seconds=seconds,
        variables={"SOURCE_DATE_EPOCH": str(int(made))},
    )
    require_installed(commands, commit, ended)
    wheel, facts = _the_wheel(commands, commit, folder / "dist")
    sha256, archive_sha256 = file_hash(str(wheel)), file_hash(str(archive))
    kept = join(workspace, "pipelines")
    return PipelineBuild(
        repository=git.repository,
        commit=info.commit,
        tree=info.tree,
        author=info.author,
        committed_at=info.committed_at,
        subject=info.subject[:200],
        source_uri=keep(str(archive), join(kept, "sources", f"{archive_sha256}.tar.gz")),
        source_sha256=archive_sha256,
        name=facts["Name"],
        version=facts["Version"],
        wheel_uri=keep(str(wheel), join(kept, "wheels", sha256, wheel.name)),
        wheel_sha256=sha256,
        builders={**_versions(commands, python, folder), "backend": facts["Generator"]},
    )


def require_installed(commands: Commands, commit: str, ended: Ended) -> None:
    """Pass if a command that builds or installs ended well.

    Raises:
        PipelineStageError: it failed for what the commit says.
        StepFailedError: it failed for the package index, or was killed; a retry may help.
    """
    if ended.succeeded():
        return
    if _NO_NETWORK.search(ended.last_lines):
        raise StepFailedError(f"The package index does not answer: {ended.reason()}")
    resolved = "" if not _UNRESOLVED.search(ended.last_lines) else "a dependency does not resolve; "
    raise commands.refusal(commit, resolved + ended.reason())


def _the_wheel(commands: Commands, commit: str, folder: Path) -> tuple[Path, Mapping[str, str]]:
    wheels = list(folder.glob("*.whl"))
    try:
        if len(wheels) != 1:
            names = sorted(each.name for each in wheels)
            raise DataError(f"Expected the build to write one wheel, got {names}.")
        return wheels[0], wheel_facts(wheels[0])
    except DataError as error:
        raise commands.refusal(commit, str(error)) from error


def _versions(commands: Commands, python: str, folder: Path) -> dict[str, str]:
    asked = [python, "-c", _VERSIONS]
    ended = commands.run("versions", asked, folder=folder, seconds=_QUICK_SECONDS)
    if not ended.succeeded():
        raise StepFailedError(ended.reason())
    return dict(json.loads(ended.last_lines.splitlines()[-1]))
