"""What the stages of a pipeline's CI share: processes of their own, and what is kept of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.runtimes import kind_of, python_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import PipelineBuild
    from airflow_mlops_provider.steps.pipeline_ci.commands import Commands
    from airflow_mlops_provider.steps.pipeline_ci.rooms import Room
    from airflow_mlops_provider.steps.track import TaskRun


@dataclass(frozen=True)
class Bench:
    """What a stage works with while its task runs."""

    run: TaskRun
    folder: Path
    artifacts: Path


class PipelineStageOperator(MlopsOperator):
    """Base of the stages of a pipeline's CI; not for use in a DAG.

    The code of the pipeline runs only in processes of their own, with none of Airflow's settings
    and Connections in their environment. They end with the task, however that ends. What they say
    is in the task's log, and as artifacts in its MLflow run.

    Args:
        environment: Variables that these processes get beside the worker's ``PATH``, ``HOME`` and
            the settings of proxies, git, ssh and pip. They are not recorded in MLflow; take
            secrets from a Connection (``{{ conn.x.password }}``), so that Airflow masks them.
        runtime: Interpreter of these processes, ``{"python": path}``, or ``{"requirements": […],
            "python_version": "3.12"}`` for an environment that is made and kept.
        timeout_seconds: How long each of these processes may take.
    """

    shared_template_fields: ClassVar[Sequence[str]] = (
        *MlopsOperator.shared_template_fields,
        "environment",  # shared fields are no parameters in MLflow, which would show secrets
        "runtime",
        "timeout_seconds",
    )
    template_fields: Sequence[str] = shared_template_fields
    stage: ClassVar[str]
    _commands: Commands | None = None

    def __init__(
        self,
        *,
        environment: dict[str, str] | None = None,
        runtime: dict[str, Any] | None = None,
        timeout_seconds: float | str = 1800,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.environment = environment
        self.runtime = runtime
        self.timeout_seconds = timeout_seconds

    @property
    def variables(self) -> dict[str, str]:
        """All the environment variables of the stage's processes."""
        from airflow_mlops_provider.steps.pipeline_ci.rooms import passed_on

        return {**passed_on(os.environ), **(self.environment or {})}

    def on_kill(self) -> None:
        """End the stage's processes."""
        if self._commands is not None:
            self._commands.stop()
        super().on_kill()

    @contextmanager
    def bench(self, context: Context) -> Iterator[Bench]:
        """Open the MLflow run and a folder; log the folder's artifacts, however the stage ends."""
        with (
            self.tracked_run(context) as run,
            TemporaryDirectory(prefix="airflow-mlops-", ignore_cleanup_errors=True) as folder,
        ):
            artifacts = Path(folder, "artifacts")
            artifacts.mkdir()
            try:
                yield Bench(run, Path(folder), artifacts)
            finally:
                run.client.log_artifacts(run.run_id, str(artifacts), self.stage)

    def commands(self, artifacts: Path, more: dict[str, str] | None = None) -> Commands:
        """Return what runs the stage's processes, until the task is killed."""
        from airflow_mlops_provider.steps.pipeline_ci.commands import Commands

        variables = {**self.variables, **(more or {})}
        self._commands = Commands(self.stage, variables, artifacts, self.log.info)
        return self._commands


class TriedBuildOperator(PipelineStageOperator):
    """Base of the stages that try a build; not for use in a DAG.

    Args:
        build: The ``PipelineBuild``.
        extras: Extras of the wheel whose dependencies are installed, if there is no ``runtime``.
        constraints: File of pip's constraints for them: in the repository, or a path or URI.
        dags: Folder of the DAG files in the repository.
    """

    build_template_fields: ClassVar[Sequence[str]] = (
        *PipelineStageOperator.shared_template_fields,
        "build",
        "extras",
        "constraints",
        "dags",
    )
    template_fields: Sequence[str] = build_template_fields

    def __init__(
        self,
        *,
        build: Any,
        extras: Sequence[str] = ("dev",),
        constraints: str | None = None,
        dags: str | None = "dags",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.build = build
        self.extras = extras
        self.constraints = constraints
        self.dags = dags

    def furnish(self, build: PipelineBuild, bench: Bench) -> tuple[Commands, Room]:
        """Bring the build, and an interpreter with its dependencies."""
        from airflow_mlops_provider.steps.pipeline_ci import rooms

        room = rooms.furnish(build, bench.folder)
        commands = self.commands(bench.artifacts, room.variables(self.dags))
        if self.runtime and kind_of(self.runtime) == "python":
            return commands, replace(room, python=python_of(self.runtime, self.stage))
        runtime = self.runtime or {}
        python = rooms.environment_of(
            commands,
            build.commit,
            room,
            extras=self.extras,
            requirements=runtime.get("requirements", ()),
            constraints=self.constraints,
            python_version=runtime.get("python_version"),
            seconds=float(self.timeout_seconds),
        )
        return commands, replace(room, python=python)
