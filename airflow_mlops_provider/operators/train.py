"""Fit a model on a dataset with given parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.operators.isolated import IsolatedMlopsOperator
from airflow_mlops_provider.records import DatasetRef, TrainingSpec

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import ModelRef


class TrainModelOperator(IsolatedMlopsOperator):
    """Fit a scikit-learn estimator and log it to MLflow. Gives a ``ModelRef``.

    Args:
        dataset: The ``DatasetRef`` to learn from; rows without a target are left out.
        estimator: An estimator class or factory, or its import path (``pkg.module.name``).
        features: Columns the model sees, in this order.
        target: Column it learns to predict.
        estimator_params: Keyword arguments of ``estimator``.
        trusted_types: Full names of classes outside scikit-learn and numpy in the model.
    """

    template_fields: Sequence[str] = (
        *IsolatedMlopsOperator.shared_template_fields,
        "dataset",
        "estimator",
        "features",
        "target",
        "estimator_params",
        "trusted_types",
    )

    def __init__(
        self,
        *,
        dataset: Any,
        estimator: str | Callable[..., Any],
        features: Sequence[str],
        target: str,
        estimator_params: dict[str, Any] | None = None,
        trusted_types: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.estimator = estimator
        self.features = features
        self.target = target
        self.estimator_params = estimator_params
        self.trusted_types = trusted_types

    def execute(self, context: Context) -> dict[str, Any]:
        """Train, and log model, parameters and data lineage."""
        with self.tracked_run(context) as run:
            model = self.run_step(
                "train.train_model", self.training_spec(), run=run, factory=self.factory
            )
            run.log_record(model)
        return self.handed_over(model)

    @property
    def factory(self) -> Callable[..., Any] | None:
        """The estimator, if it was given as a class or function."""
        return self.estimator if callable(self.estimator) else None

    def training_spec(self) -> TrainingSpec:
        """Return what is to be trained, known once the task runs."""
        from airflow_mlops_provider.steps.train import import_path

        return TrainingSpec(
            dataset=DatasetRef.from_xcom(self.dataset),
            estimator=import_path(self.estimator),
            features=list(self.features),
            target=self.target,
            params=self.estimator_params or {},
            trusted_types=list(self.trusted_types),
        )

    def handed_over(self, model: ModelRef) -> dict[str, Any]:
        """Say what was logged, and return it for the tasks that follow."""
        self.log.info("Logged %s, trained with %s", model.model_uri, model.params)
        return model.to_xcom()
