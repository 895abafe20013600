"""What all operators of the provider share: a workspace, a tracked run, one way to fail."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import AssetAlias, BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_mlops_provider.exceptions import PermanentError
from airflow_mlops_provider.hooks.mlflow import MlflowHook
from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.links import MLFLOW_RUN_KEY, MlflowRunLink
from airflow_mlops_provider.operators.provenance import (
    pipeline_tags,
    task_facts,
    task_parameters,
    task_tags,
)
from airflow_mlops_provider.steps.metadata import artifact_url, mlflow_run_url

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Asset, Context
    from mlflow import MlflowClient

    from airflow_mlops_provider.records import Record
    from airflow_mlops_provider.steps.track import TaskRun


class MlopsOperator(BaseOperator):
    """Base of the operators: each task attempt is one MLflow run inside its DAG run's run.

    Args:
        mlflow_conn_id: Connection of the tracking server and registry.
        experiment_name: MLflow experiment; by default the id of the DAG.
        workspace: fsspec URI of the workspace; by default ``[mlops] workspace``.
    """

    shared_template_fields: ClassVar[Sequence[str]] = (
        "mlflow_conn_id",
        "experiment_name",
        "workspace",
    )
    template_fields: Sequence[str] = shared_template_fields
    operator_extra_links: Collection[BaseOperatorLink] = (MlflowRunLink(),)
    ui_color = "#e8f4fa"

    mlflow_run: TaskRun | None = None
    """This attempt's MLflow run, once it was opened."""

    def __init__(
        self,
        *,
        mlflow_conn_id: str = MlflowHook.default_conn_name,
        experiment_name: str = "{{ dag.dag_id }}",
        workspace: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mlflow_conn_id = mlflow_conn_id
        self.experiment_name = experiment_name
        self.workspace = workspace

    @property
    def workspace_uri(self) -> str:
        """The workspace to use, known once the task runs."""
        return self.workspace or workspace_uri()

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], *args: Any, **kwargs: Any
    ) -> None:
        """Render all fields but functions and classes, which Airflow would call to render them."""
        rendered = [name for name in template_fields if not callable(getattr(parent, name, None))]
        super()._do_render_template_fields(parent, rendered, *args, **kwargs)

    def open_experiment(self) -> tuple[MlflowClient, str]:
        """Return a client of MLflow and the id of this task's experiment, made if need be."""
        from airflow_mlops_provider.steps.track import experiment_id

        hook = MlflowHook(self.mlflow_conn_id)
        client = hook.get_conn()
        return client, experiment_id(client, self.experiment_name, hook.artifact_root)

    @contextmanager
    def tracked_run(self, context: Context) -> Iterator[TaskRun]:
        """Open this attempt's MLflow run; what a retry cannot mend fails the task for good."""
        from airflow_mlops_provider.steps.track import task_run

        with failing_for_good():
            client, experiment = self.open_experiment()
            with task_run(
                client,
                experiment,
                pipeline_tags(context),
                task_tags(context),
                self.task_id,
                extra_tags=task_facts(self, context),
                params=task_parameters(self),
                status_after=status_after,
            ) as run:
                self.mlflow_run = run
                self.link_run(context, client, experiment, run.run_id)
                yield run

    def on_kill(self) -> None:
        """End the MLflow run as KILLED; Airflow kills the process five seconds after this."""
        if self.mlflow_run is not None:
            self.mlflow_run.kill()

    def get_openlineage_facets_on_start(self) -> OperatorLineage:
        """Tell OpenLineage what this task is going to read."""
        from airflow_mlops_provider.lineage import lineage_of

        return lineage_of(self)

    def get_openlineage_facets_on_complete(self, task_instance: object) -> OperatorLineage:
        """Tell OpenLineage what this task read and wrote, also if it failed."""
        from airflow_mlops_provider.lineage import lineage_of

        return lineage_of(self)

    def link_run(
        self, context: Context, client: MlflowClient, experiment: str, run_id: str
    ) -> None:
        """Point the task's button to an MLflow run, if its store has pages."""
        if url := mlflow_run_url(client.tracking_uri, experiment, run_id):
            context["ti"].xcom_push(key=MLFLOW_RUN_KEY, value=url)

    def link_artifact(self, context: Context, run: TaskRun, key: str, path: str) -> None:
        """Point the button whose XCom key is ``key`` to an artifact, as soon as it is logged.

        It then works while the task is still running, and if it fails afterwards.
        """
        if url := mlflow_run_url(run.client.tracking_uri, run.experiment_id, run.run_id):
            context["ti"].xcom_push(key=key, value=artifact_url(url, path))

    def emit_asset(self, context: Context, asset: Asset, record: Record) -> None:
        """Emit an event of ``asset``, carrying ``record``, through each ``AssetAlias`` outlet."""
        for outlet in self.outlets:
            if isinstance(outlet, AssetAlias):
                context["outlet_events"][outlet].add(asset, extra=record.to_xcom())


def status_after(error: BaseException) -> str | None:
    """Return what a task's MLflow run ends as after an error; None leaves it open."""
    from airflow_mlops_provider.steps import track

    if isinstance(error, TaskDeferred):
        return None  # the same attempt goes on later
    return "FINISHED" if isinstance(error, AirflowSkipException) else track.status_after(error)


@contextmanager
def failing_for_good() -> Iterator[None]:
    """Turn our permanent errors into the exception that makes Airflow skip its retries.

    Its message is one line, the last one of the task's log; the original is its cause.
    """
    try:
        yield
    except PermanentError as error:
        raise AirflowFailException(" ".join(str(error).split())) from error
