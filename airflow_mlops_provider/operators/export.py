"""Pack a model version for delivery to the edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.operators.isolated import IsolatedMlopsOperator
from airflow_mlops_provider.records import DatasetRef, ModelVersionRef

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import ModelBundleRef


class ExportModelOperator(IsolatedMlopsOperator):
    """Pack a model version as one zip that runs without MLflow. Gives a ``ModelBundleRef``.

    The zip lies in the workspace under its content: a retry gives the same file. It holds ONNX if
    the model converts and its answers agree with the model's own, else the MLflow model.

    Args:
        model_version: The ``ModelVersionRef`` to pack.
        format: ``onnx`` (or fail), ``mlflow``, or ``auto``: ONNX where it is possible.
        dataset: A ``DatasetRef`` on whose rows ONNX has to agree, beside the input example.
        sample_rows: How many of its rows at most, evenly from all of it.
        tolerance: Largest difference of an answer a, as a share of 1 + abs(a).
    """

    template_fields: Sequence[str] = (
        *IsolatedMlopsOperator.shared_template_fields,
        "model_version",
        "format",
        "dataset",
        "sample_rows",
        "tolerance",
    )

    def __init__(
        self,
        *,
        model_version: Any,
        format: str = "auto",
        dataset: Any = None,
        sample_rows: int = 1_000,
        tolerance: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_version = model_version
        self.format = format
        self.dataset = dataset
        self.sample_rows = sample_rows
        self.tolerance = tolerance

    def execute(self, context: Context) -> dict[str, Any]:
        """Convert, compare and pack."""
        with self.tracked_run(context) as run:
            bundle: ModelBundleRef = self.run_step(
                "export.export_model",
                ModelVersionRef.from_xcom(self.model_version),
                workspace=self.workspace_uri,
                format=self.format,
                dataset=DatasetRef.from_xcom(self.dataset) if self.dataset else None,
                sample_rows=int(self.sample_rows),
                tolerance=float(self.tolerance),
            )
            run.log_record(bundle)
        self.log.info("%s is packed as %s: %s", bundle.model_uri, bundle.format, bundle.reason)
        return bundle.to_xcom()
