"""Cut a dataset into a part to learn from and a part to be judged on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.records import DatasetRef

if TYPE_CHECKING:
    from airflow.sdk import Context


class SplitDatasetOperator(MlopsOperator):
    """Split a dataset by time, by group or stratified.

    Gives a ``SplitRef``, and its parts under the XCom keys ``train`` and ``test``, so that
    ``TrainModelOperator(dataset=split.output["train"])`` reads as it should.

    Args:
        dataset: The ``DatasetRef`` to cut.
        strategy: ``time`` (the newest rows are the test), ``group`` or ``stratified``.
        column: The column that orders, groups or stratifies.
        test_size: Share of rows in the test part, between 0 and 1.
        seed: Seed of the shuffling strategies.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "dataset",
        "strategy",
        "column",
        "test_size",
        "seed",
    )

    def __init__(
        self,
        *,
        dataset: Any,
        column: str,
        strategy: str = "time",
        test_size: float = 0.2,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.strategy = strategy
        self.column = column
        self.test_size = test_size
        self.seed = seed

    def execute(self, context: Context) -> dict[str, Any]:
        """Write both parts to the workspace."""
        from airflow_mlops_provider.steps.split import split_dataset

        with self.tracked_run(context) as run:
            dataset = DatasetRef.from_xcom(self.dataset)
            split = split_dataset(
                dataset,
                strategy=self.strategy,
                column=self.column,
                test_size=float(self.test_size),
                seed=int(self.seed),
                workspace=self.workspace_uri,
            )
            run.log_record(split)
            for part, use in ((dataset, "split"), (split.train, "train"), (split.test, "test")):
                run.log_dataset(part, use)
        self.log.info("Split into %d and %d rows", split.train.n_rows, split.test.n_rows)
        context["ti"].xcom_push(key="train", value=split.train.to_xcom())
        context["ti"].xcom_push(key="test", value=split.test.to_xcom())
        return split.to_xcom()
