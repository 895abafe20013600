"""``@task.expectations``: a function that returns a suite, and the data to ask it about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory

from airflow_mlops_provider.operators.validate import ValidateDataOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator


class ExpectationsDecoratedOperator(DecoratedOperator, ValidateDataOperator):
    """Validate data with the suite that a function returns. Gives a ``ValidationReport``.

    Args:
        python_callable: The decorated function; what it returns may have any form that
            ``ValidateDataOperator`` takes as a suite.
        op_args: Its positional arguments.
        op_kwargs: Its keyword arguments.
    """

    custom_operator_name = "@task.expectations"
    template_fields: Sequence[str] = (
        *(name for name in ValidateDataOperator.template_fields if name != "suite"),
        "python_callable",
        "op_args",
        "op_kwargs",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"op_args": "py", "op_kwargs": "py"}

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any],
        op_kwargs: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            suite=None,
            **kwargs,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function and run the suite it returns."""
        self.suite = partial(self.python_callable, *self.op_args, **self.op_kwargs)
        return ValidateDataOperator.execute(self, context)


def expectations_task(
    python_callable: Callable[..., Any] | None = None, **kwargs: Any
) -> TaskDecorator:
    """Turn a function that returns a suite into a task that validates data.

    Args:
        python_callable: The function to decorate.
        **kwargs: Arguments of the operator: ``dataset``, for example.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=False,
        decorated_operator_class=ExpectationsDecoratedOperator,
        **kwargs,
    )
