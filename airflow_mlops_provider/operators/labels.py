"""Join the labels that came to the predictions they are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.compact import close_segments
from airflow_mlops_provider.records import DatasetRef, PredictionBatchRef
from airflow_mlops_provider.workspace import join

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.steps.labels import LabelCounts


class JoinLabelsOperator(MlopsOperator):
    """Give predictions the labels that came for them, from a dataset or from the serving host.

    Gives a ``DatasetRef`` of the labelled predictions, with ``label`` and ``label_ts``; None while
    no label has come. Joining the same predictions again gains the labels that came late. With
    ``time_column`` and another ``key`` than ``request_id``, a label belongs to the last prediction
    of its key at or before its time; of several events after one prediction, to the first. What
    was not joined, and why, is logged and kept as metrics.

    Args:
        predictions: The ``PredictionBatchRef``.
        labels: The ``DatasetRef`` with the truth; or
        endpoint: the endpoint whose feedback is taken, as clients sent it to the serving host. It
            names requests, or entities and times; only the spans below apply to it.
        label_key: Column of the labels to join on; compared as text.
        label_column: Column of the labels with the truth; it becomes ``label``.
        key: Column of the predictions to join on, such as ``request_id``.
        row_column: Column of the labels with the row of the request, from 0; without it a label is
            that of all its rows.
        time_column: Column of the labels with the time of what happened.
        updated_column: Column of the labels that orders corrections: the last one holds.
        max_delay: How long after a prediction an event may be: seconds or an ISO 8601 duration.
        clock_skew: How long before a prediction an event may seem to be, because clocks differ.
        on_conflict: ``error`` or ``drop``: what to do about labels that contradict each other and
            that nothing orders.
        feedback_folder: URI of the feedback; by default the endpoint's folder in the workspace.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "predictions",
        "labels",
        "endpoint",
        "label_key",
        "label_column",
        "key",
        "row_column",
        "time_column",
        "updated_column",
        "max_delay",
        "clock_skew",
        "on_conflict",
        "feedback_folder",
        "serving_conn_id",
    )

    def __init__(
        self,
        *,
        predictions: Any,
        labels: Any = None,
        endpoint: str | None = None,
        label_key: str | None = None,
        label_column: str | None = None,
        key: str = "entity_id",
        row_column: str | None = None,
        time_column: str | None = None,
        updated_column: str | None = None,
        max_delay: Any = None,
        clock_skew: Any = 0,
        on_conflict: str = "error",
        feedback_folder: str | None = None,
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.predictions = predictions
        self.labels = labels
        self.endpoint = endpoint
        self.label_key = label_key
        self.label_column = label_column
        self.key = key
        self.row_column = row_column
        self.time_column = time_column
        self.updated_column = updated_column
        self.max_delay = max_delay
        self.clock_skew = clock_skew
        self.on_conflict = on_conflict
        self.feedback_folder = feedback_folder
        self.serving_conn_id = serving_conn_id

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Join, and say what became of predictions and labels."""
        from airflow_mlops_provider.steps.labels import LabelCounts

        with self.tracked_run(context) as run:
            counts = LabelCounts()
            labelled = self._joined(PredictionBatchRef.from_xcom(self.predictions), counts)
            run.log_metrics(counts.metrics())
            if labelled:
                run.log_record(labelled)
        told = ", ".join(f"{n} {name}" for name, n in vars(counts).items() if n)
        self.log.info("Of predictions and labels: %s", told or "there are none")
        return labelled.to_xcom() if labelled else None

    def _joined(self, predictions: PredictionBatchRef, counts: LabelCounts) -> DatasetRef | None:
        from airflow_mlops_provider.steps.labels import join_feedback, join_labels

        if bool(self.labels) == bool(self.endpoint):
            raise ParameterError(
                "JoinLabelsOperator needs exactly one of labels and endpoint. Got "
                f"{self.labels!r} and {self.endpoint!r} instead."
            )
        shared: dict[str, Any] = {
            "workspace": self.workspace_uri,
            "max_delay": self.max_delay,
            "clock_skew": self.clock_skew,
            "counts": counts,
        }
        if not self.endpoint:
            return join_labels(
                predictions,
                DatasetRef.from_xcom(self.labels),
                key=self.key,
                label_key=self._required("label_key"),
                label_column=self._required("label_column"),
                row_column=self.row_column or None,
                time_column=self.time_column or None,
                updated_column=self.updated_column or None,
                on_conflict=self.on_conflict,  # type: ignore[arg-type]  # the step checks it
                **shared,
            )
        close_segments(self, self.serving_conn_id, self.endpoint)
        default = join(self.workspace_uri, "serving", "feedback", self.endpoint)
        folder = self.feedback_folder or default
        return join_feedback(predictions, endpoint=self.endpoint, log_folder=folder, **shared)

    def _required(self, name: str) -> str:
        if value := getattr(self, name):
            return str(value)
        raise ParameterError.of(name, type(self).__name__, "given with labels", value)
