"""Predict a whole dataset with a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.operators.isolated import IsolatedMlopsOperator
from airflow_mlops_provider.records import DatasetRef, ModelVersionRef

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mlflow import MlflowClient

    from airflow_mlops_provider.records import PredictionBatchRef, PredictionPartsRef


class BatchPredictOperator(IsolatedMlopsOperator):
    """Write a model's score of each row of a dataset. Gives a ``PredictionBatchRef``.

    Exactly one of ``model_uri`` and ``model_version`` names the model. With ``partition_by``, or
    ``time_column`` and ``period``, the answers become a folder of one file for each partition, and
    the record a ``PredictionPartsRef``: an attempt that was killed is gone on with, and mapped
    tasks may share the partitions: ``.partial(of=4, ...).expand(part=[0, 1, 2, 3])``.

    Args:
        dataset: The ``DatasetRef`` to predict.
        model_uri: An MLflow model URI such as ``models:/name@champion``.
        model_version: A ``ModelVersionRef``.
        batch_rows: Rows that are predicted, and kept in memory, at once.
        keep_columns: Columns of the dataset to keep beside the score.
        partition_by: Columns whose values make the partitions.
        time_column: Time whose period makes the partitions.
        period: ``hour``, ``day``, ``week``, ``month`` or ``year``.
        workers: Processes that predict partitions side by side; each holds ``batch_rows`` rows.
        part: Which share of the partitions to predict, from 0.
        of: Into how many shares the partitions are dealt.
        repo_path: Feature repository that the dataset's features come from. A version that
            learned from a feature service that is defined differently by now fails the task for
            good; without a repository nothing is compared.
        feast_conn_id: Connection whose extra is laid over its ``feature_store.yaml``.
    """

    template_fields: Sequence[str] = (
        *IsolatedMlopsOperator.shared_template_fields,
        "dataset",
        "model_uri",
        "model_version",
        "batch_rows",
        "keep_columns",
        "partition_by",
        "time_column",
        "period",
        "workers",
        "part",
        "of",
        "repo_path",
        "feast_conn_id",
    )

    def __init__(
        self,
        *,
        dataset: Any,
        model_uri: str | None = None,
        model_version: Any = None,
        batch_rows: int = 100_000,
        keep_columns: Sequence[str] = (),
        partition_by: Sequence[str] = (),
        time_column: str | None = None,
        period: str | None = None,
        workers: int = 1,
        part: int = 0,
        of: int = 1,
        repo_path: str | None = None,
        feast_conn_id: str = FeastHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.model_uri = model_uri
        self.model_version = model_version
        self.batch_rows = batch_rows
        self.keep_columns = keep_columns
        self.partition_by = partition_by
        self.time_column = time_column
        self.period = period
        self.workers = workers
        self.part = part
        self.of = of
        self.repo_path = repo_path
        self.feast_conn_id = feast_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Predict in batches."""
        with self.tracked_run(context) as run:
            dataset = DatasetRef.from_xcom(self.dataset)
            run.log_dataset(dataset, "prediction")
            model_uri = self._model(run.client)
            step, options = "predict.batch_predict", {}
            if self.partition_by or self.time_column:
                step, options = "predict_parts.predict_parts", self._parts(run.client, model_uri)
            batch: PredictionBatchRef | PredictionPartsRef = self.run_step(
                step,
                model_uri,
                dataset,
                workspace=self.workspace_uri,
                batch_rows=int(self.batch_rows),
                keep_columns=list(self.keep_columns),
                **options,
            )
            run.log_record(batch)
        self.log.info("Predicted %d rows with %s", batch.n_rows, batch.model_versions)
        return batch.to_xcom()

    def _parts(self, client: MlflowClient, model_uri: str) -> dict[str, Any]:
        from airflow_mlops_provider.steps.register import feature_service_of

        by = {"columns": list(self.partition_by), "period": self.period or None}
        return {
            "partitioning": {**by, "time_column": self.time_column or None},
            "workers": int(self.workers),
            "part": int(self.part),
            "of": int(self.of),
            "feature_service": feature_service_of(client, model_uri),
        }

    def _model(self, client: MlflowClient) -> str:
        if bool(self.model_uri) == bool(self.model_version):
            got = {"model_uri": self.model_uri, "model_version": self.model_version}
            raise ParameterError.of(
                "model_uri", "BatchPredictOperator", "given, or else model_version", got
            )
        uri = self.model_uri or ModelVersionRef.from_xcom(self.model_version).model_uri
        if self.repo_path is None:
            return uri
        from airflow_mlops_provider.steps.features.pin import require_pinned_model

        hook = FeastHook(self.feast_conn_id, self.repo_path, self.workspace_uri)
        return require_pinned_model(hook.get_conn(), client, uri)
