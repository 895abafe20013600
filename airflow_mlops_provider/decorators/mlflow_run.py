"""``@task.mlflow_run``: a Python function of any framework inside this DAG run's MLflow run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory

from airflow_mlops_provider.operators.base import MlopsOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator


class MlflowRunDecoratedOperator(DecoratedOperator, MlopsOperator, PythonOperator):
    """Call a function while an MLflow run for this task attempt is active.

    ``mlflow.log_metric`` and its siblings, and every autologging flavour, write to that run. A
    parameter ``mlflow_run=None`` gets it as a :class:`~airflow_mlops_provider.steps.track.TaskRun`.
    The function may be ``async``.

    Recorded are: each ``DatasetRef`` among the arguments as an input of the run, with the
    argument's name as context; texts, numbers and flags among them as parameters; and what the
    function returns, as a record or as ``outputs.json``. A function that trains returns
    :func:`~airflow_mlops_provider.steps.train.model_ref`.

    Args:
        python_callable: The decorated function.
        op_args: Its positional arguments.
        op_kwargs: Its keyword arguments.
    """

    custom_operator_name = "@task.mlflow_run"
    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        *PythonOperator.template_fields,
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
        upstream: dict[str, Any] = {
            "python_callable": python_callable,
            "op_args": op_args,
            "op_kwargs": op_kwargs,
        }
        super().__init__(kwargs_to_upstream=upstream, **upstream, **kwargs)

    def execute(self, context: Context) -> Any:
        """Call the function, and record what goes in and out."""
        from airflow_mlops_provider.steps.function_run import active_run, log_arguments, log_result

        given = signature(self.python_callable).bind_partial(*self.op_args, **self.op_kwargs)
        with self.tracked_run(context) as run:
            log_arguments(run, given.arguments)
            with active_run(run):
                result = super().execute(cast("Context", {**context, "mlflow_run": run}))
            return log_result(run, result)


def mlflow_run_task(
    python_callable: Callable[..., Any] | None = None,
    multiple_outputs: bool | None = None,
    **kwargs: Any,
) -> TaskDecorator:
    """Turn a function into a task with an active MLflow run.

    Args:
        python_callable: The function to decorate.
        multiple_outputs: Push each key of the returned dict as an XCom of its own.
        **kwargs: Arguments of the operator.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=MlflowRunDecoratedOperator,
        **kwargs,
    )
