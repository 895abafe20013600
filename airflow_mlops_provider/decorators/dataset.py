"""``@task.dataset``: a Python function whose rows are kept as a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory

from airflow_mlops_provider.operators.snapshot import SnapshotDatasetOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator


class DatasetDecoratedOperator(  # type: ignore[misc]  # Airflow's op_kwargs is never None
    DecoratedOperator, SnapshotDatasetOperator
):
    """Keep the frame or Arrow table that a function returns, or those it yields, as a dataset.

    Gives a ``DatasetRef``. All other arguments are those of ``SnapshotDatasetOperator``.

    Args:
        python_callable: The decorated function.
        op_args: Its positional arguments.
        op_kwargs: Its keyword arguments.
    """

    custom_operator_name = "@task.dataset"
    template_fields: Sequence[str] = (
        *SnapshotDatasetOperator.template_fields,
        "op_args",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **SnapshotDatasetOperator.template_fields_renderers,
        "op_args": "py",
    }

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any],
        op_kwargs: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kwargs_to_upstream={"source": python_callable, "op_kwargs": op_kwargs},
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        """Call the function and write the dataset to the workspace."""
        return SnapshotDatasetOperator.execute(self, context)

    def rows(self, context: Context) -> Any:
        """Call the function with its arguments and what it asks of the context."""
        named = self.determine_kwargs({**context, **self.op_kwargs})
        return self.python_callable(*self.op_args, **named)


def dataset_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Turn a function into a task that keeps its rows as a dataset.

    Args:
        python_callable: The function to decorate.
        **kwargs: Arguments of the operator, at least ``name``.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        decorated_operator_class=DatasetDecoratedOperator,
        **kwargs,
    )
