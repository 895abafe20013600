"""What operators share whose step may run in a Python environment of its own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlops_provider.operators.base import MlopsOperator

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.track import TaskRun

_STEPS = "airflow_mlops_provider.steps"


class IsolatedMlopsOperator(MlopsOperator):
    """Base of operators whose step may run in an environment of its own.

    Args:
        runtime: Where the step runs; by default in the process of the task.
    """

    shared_template_fields: ClassVar[Sequence[str]] = (
        *MlopsOperator.shared_template_fields,
        "runtime",
    )
    template_fields: Sequence[str] = shared_template_fields

    def __init__(self, *, runtime: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.runtime = runtime

    def run_step(self, step: str, /, *arguments: Any, run: TaskRun, **named: Any) -> Any:
        """Call ``step`` (``module.function`` under ``steps``) and return its record."""
        module, _, function = step.rpartition(".")
        call = getattr(importlib.import_module(f"{_STEPS}.{module}"), function)
        return call(*arguments, run=run, **named)
