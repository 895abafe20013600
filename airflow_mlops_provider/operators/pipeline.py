"""Open and close the MLflow run of a whole DAG run, as a setup and a teardown task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.operators.base import MlopsOperator, failing_for_good
from airflow_mlops_provider.operators.provenance import dag_run_facts, pipeline_tags

if TYPE_CHECKING:
    from airflow.sdk import Context

_FAILED_STATES = {"failed", "upstream_failed"}


class StartPipelineRunOperator(MlopsOperator):
    """Open the MLflow run of this DAG run; every other task nests its own run in it.

    Use it as a setup task and :class:`FinishPipelineRunOperator` as its teardown. A retry or a
    clear reopens the same run. Gives the MLflow run id.

    Args:
        run_tags: Further tags of the run, a git commit for example.
    """

    template_fields: Sequence[str] = (*MlopsOperator.shared_template_fields, "run_tags")

    def __init__(self, *, run_tags: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run_tags = run_tags

    def execute(self, context: Context) -> str:
        """Open or reopen the run."""
        from airflow_mlops_provider.steps.environment import log_environment
        from airflow_mlops_provider.steps.track import start_pipeline_run

        with failing_for_good():
            client, experiment = self.open_experiment()
            run_id = start_pipeline_run(
                client,
                experiment,
                pipeline_tags(context),
                name=context["ti"].run_id,
                extra_tags={**dag_run_facts(context), **(self.run_tags or {})},
            )
            log_environment(client, run_id)
            self.link_run(context, client, experiment, run_id)
        self.log.info("MLflow run %s in experiment %r", run_id, self.experiment_name)
        return run_id


class FinishPipelineRunOperator(MlopsOperator):
    """Close the MLflow run of this DAG run with the state its tasks reached.

    Runs that killed tasks left open end as KILLED.
    """

    def execute(self, context: Context) -> str:
        """Close the run; gives its final status."""
        from airflow_mlops_provider.steps.track import finish_pipeline_run

        status = "FAILED" if any_failed(context) else "FINISHED"
        with failing_for_good():
            client, experiment = self.open_experiment()
            run_id, abandoned = finish_pipeline_run(
                client, experiment, pipeline_tags(context), status
            )
            if run_id:
                self.link_run(context, client, experiment, run_id)
        self.log.info("MLflow run ends %s; %d task runs were left open", status, abandoned)
        return status


def any_failed(context: Context) -> bool:
    """Tell whether a task of this DAG run failed so far."""
    ti = context["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])
    return any(state in _FAILED_STATES for state in states.get(ti.run_id, {}).values())
