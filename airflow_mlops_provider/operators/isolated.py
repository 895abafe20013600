"""What operators share whose step may run in a Python environment of its own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import get_current_context

from airflow_mlops_provider.hooks.mlflow import MlflowHook
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.runtimes import LocalProcess, Pod, kind_of, python_of
from airflow_mlops_provider.steps.remote import request_of, result_of

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.track import TaskRun

_STEPS = "airflow_mlops_provider.steps"


class IsolatedMlopsOperator(MlopsOperator):
    """Base of operators whose step may run in an environment of its own.

    Args:
        runtime: Where the step runs; by default in the process of the task. An interpreter
            ``{"python": path}``, an environment that is made and kept ``{"requirements": […],
            "python_version": "3.12"}``, or a pod ``{"image": …}`` with further arguments of
            ``KubernetesPodOperator``.
    """

    shared_template_fields: ClassVar[Sequence[str]] = (
        *MlopsOperator.shared_template_fields,
        "runtime",
    )
    template_fields: Sequence[str] = shared_template_fields
    _elsewhere: LocalProcess | Pod | None = None

    def __init__(self, *, runtime: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.runtime = runtime

    def run_step(
        self, step: str, /, *arguments: Any, run: TaskRun | None = None, **named: Any
    ) -> Any:
        """Call ``step`` (``module.function`` under ``steps``) and return its record.

        ``run`` is passed on if it is given.

        Raises:
            StepFailedError: the process of the runtime crashed, was killed or never started.
        """
        if self.runtime:
            return self._run_elsewhere(step, arguments, named, run)
        module, _, function = step.rpartition(".")
        call = getattr(importlib.import_module(f"{_STEPS}.{module}"), function)
        return call(*arguments, **named) if run is None else call(*arguments, run=run, **named)

    def on_kill(self) -> None:
        """End the step, wherever it runs."""
        if self._elsewhere is not None:
            self._elsewhere.stop()
        super().on_kill()

    def _run_elsewhere(
        self, step: str, arguments: Sequence[Any], named: dict[str, Any], run: TaskRun | None
    ) -> Any:
        assert self.runtime is not None
        hook = MlflowHook(self.mlflow_conn_id)
        request = request_of(step, arguments, named, tracking_uri=hook.tracking_uri, run=run)
        if kind_of(self.runtime) == "image":
            self._elsewhere = Pod(self.task_id, self.runtime, self.workspace_uri)
            return result_of(self._elsewhere.run(request, get_current_context()), run)
        python = python_of(self.runtime, step.partition(".")[0])
        self.log.info("The step %s runs in %s", step, python)
        self._elsewhere = LocalProcess(python, hook.environment, self.log.info)
        return result_of(self._elsewhere.run(request), run)
