"""Run a notebook inside this DAG run's MLflow run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from inspect import unwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlops_provider.hooks.mlflow import MlflowHook
from airflow_mlops_provider.links import NotebookLink
from airflow_mlops_provider.operators.base import MlopsOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.steps.notebook import KernelProcesses
    from airflow_mlops_provider.steps.track import TaskRun


class RunNotebookOperator(MlopsOperator):
    """Run a notebook with papermill, in the MLflow run of this task. Gives a ``NotebookRun``.

    ``mlflow.log_metric`` and its siblings in the notebook write to that run without any set-up,
    and the executed notebook lies there, also if a cell fails. What the notebook logs with
    ``mlflow.log_dict(..., "outputs.json")`` is handed over, as are its metrics.

    It runs through the operator of ``apache-airflow-providers-papermill`` (extra ``notebook``).
    A failed cell is retried like any code of yours, unless its exception is an
    ``AirflowFailException`` or one of our permanent errors.

    Args:
        notebook: Path or fsspec URI of the notebook.
        parameters: JSON values for the variables of its cell that is tagged ``parameters``; a
            ``DatasetRef`` among them arrives as a dict, and is logged as an input.
        kernel_name: Name of an installed Jupyter kernel; by default the notebook's own.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "notebook",
        "parameters",
        "kernel_name",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"parameters": "json"}
    operator_extra_links = (*MlopsOperator.operator_extra_links, NotebookLink())
    _kernel: KernelProcesses | None = None

    def __init__(
        self,
        *,
        notebook: str,
        parameters: Mapping[str, Any] | None = None,
        kernel_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.notebook = notebook
        self.parameters = parameters
        self.kernel_name = kernel_name

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the notebook, and keep it whether or not it comes to its end."""
        from airflow_mlops_provider.steps.extras import required

        with self.tracked_run(context) as run:
            required("airflow.providers.papermill", "notebook", "to run a notebook")
            from airflow_mlops_provider.steps.notebook import notebook_run

            parameters = self.parameters or {}
            with TemporaryDirectory(prefix="notebook-") as folder:
                self._run(context, run, Path(folder), parameters)
            record = notebook_run(run, parameters)
            run.log_record(record)
        return record.to_xcom()

    def on_kill(self) -> None:
        """End the kernel; the attempt then fails."""
        if self._kernel:
            self._kernel.end()
        super().on_kill()

    def _run(
        self, context: Context, run: TaskRun, folder: Path, parameters: Mapping[str, Any]
    ) -> None:
        from airflow.providers.papermill.operators.papermill import PapermillOperator

        from airflow_mlops_provider.steps import notebook as step

        given, executed = folder / "given.ipynb", folder / step.NOTEBOOK
        step.prepare_notebook(
            self.notebook, given, kernel_name=self.kernel_name, parameters=parameters
        )
        step.log_datasets(run, parameters)
        papermill = PapermillOperator(
            task_id=self.task_id,
            input_nb=str(given),
            output_nb=str(executed),
            parameters=dict(parameters),
            log_output=True,
        )
        self._kernel = step.KernelProcesses()
        try:
            with step.kernel_with(
                self._environment(run), step.folder_of(self.notebook, folder), self._kernel
            ):
                # unwrapped, since Airflow warns of an operator that runs within another
                unwrap(PapermillOperator.execute)(papermill, context)
        finally:
            if executed.exists():
                step.log_notebook(run, executed)
                self.link_artifact(context, run, NotebookLink.xcom_key, step.PAGE)

    def _environment(self, run: TaskRun) -> dict[str, str]:
        return {
            **os.environ,
            **MlflowHook(self.mlflow_conn_id).environment,
            "MLFLOW_RUN_ID": run.run_id,
            "MLFLOW_EXPERIMENT_ID": run.experiment_id,
        }
