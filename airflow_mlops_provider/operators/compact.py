"""Gather live predictions as a file that monitoring can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import ServingUnavailableError
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.workspace import join

if TYPE_CHECKING:
    from airflow.sdk import Context


class CompactPredictionLogOperator(MlopsOperator):
    """Gather an endpoint's prediction log as one Parquet file. Gives a ``PredictionBatchRef``.

    The serving host is asked to close its open segments first; if it does not answer, the task
    warns and takes what is closed. Doing a window again gives the same file, or one that has
    gained what was logged meanwhile.

    Args:
        endpoint: Name of the endpoint.
        log_folder: URI of the log; by default the endpoint's folder in the workspace.
        window_start: First moment to keep, ISO 8601, such as ``{{ data_interval_start }}``; by
            default all from the beginning.
        window_end: First moment not to keep; by default all to the end.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "endpoint",
        "log_folder",
        "window_start",
        "window_end",
        "serving_conn_id",
    )

    def __init__(
        self,
        *,
        endpoint: str,
        log_folder: str | None = None,
        window_start: str | None = None,
        window_end: str | None = None,
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.log_folder = log_folder
        self.window_start = window_start
        self.window_end = window_end
        self.serving_conn_id = serving_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Close, read and keep the log."""
        from airflow_mlops_provider.steps.compact import compact_log

        with self.tracked_run(context) as run:
            close_segments(self, self.serving_conn_id, self.endpoint)
            default = join(self.workspace_uri, "serving", "logs", self.endpoint)
            batch = compact_log(
                self.log_folder or default,
                endpoint=self.endpoint,
                workspace=self.workspace_uri,
                window_start=self.window_start,
                window_end=self.window_end,
            )
            run.log_record(batch)
        self.log.info("%d predictions, %d unreadable lines", batch.n_rows, batch.n_unreadable)
        return batch.to_xcom()


def close_segments(operator: MlopsOperator, serving_conn_id: str, endpoint: str) -> None:
    """Ask the serving host to close the open segments of an endpoint; warn if it is down."""
    try:
        with ServingHook(serving_conn_id).get_conn() as client:
            client.rotate_logs(endpoint)
    except ServingUnavailableError as error:
        operator.log.warning("Only closed segments are read: %s", error)
