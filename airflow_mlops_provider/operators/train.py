"""Fit a model on a dataset with given parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops_provider.operators.isolated import IsolatedMlopsOperator
from airflow_mlops_provider.records import DatasetRef, TrainingSpec

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import ModelRef


class TrainModelOperator(IsolatedMlopsOperator):
    """Fit a scikit-learn estimator and log it to MLflow. Gives a ``ModelRef``.

    Args:
        dataset: The ``DatasetRef`` to learn from; rows without a target are left out.
        estimator: An estimator class or factory, its import path (``pkg.module.name``), or the
            description of a Pipeline: a YAML file (``*.yaml``) or a dict, see
            :mod:`~airflow_mlops_provider.steps.estimators`.
        features: Columns the model sees, in this order.
        target: Column it learns to predict.
        estimator_params: Keyword arguments of ``estimator``; those of a Pipeline's steps by
            scikit-learn's names (``model__max_iter``).
        seed: What every ``random_state`` becomes that is not given, so that each run can be
            repeated; None leaves them to chance.
        categorical: Features that the estimator gets as pandas categories (for
            ``HistGradientBoostingClassifier(categorical_features="from_dtype")``, say).
        class_weight: ``balanced``, or class to weight; it becomes the weight of the rows.
        weight_column: Column with the weight of each row, at least 0; no feature.
        early_stopping: ``{"fraction": 0.1, "patience": 10}``: stop when that many iterations in
            a row bring nothing on the held out share of the rows, the last ones where the
            estimator can be given them.
        serialization: ``skops``, which runs no code that was not trusted by name, or
            ``cloudpickle``.
        trusted_types: Full names of classes outside scikit-learn and numpy in the model.
        code_paths: Files and folders of code that are kept with the model, and importable where
            it is loaded.
    """

    template_fields: Sequence[str] = (
        *IsolatedMlopsOperator.shared_template_fields,
        "dataset",
        "estimator",
        "features",
        "target",
        "estimator_params",
        "seed",
        "categorical",
        "class_weight",
        "weight_column",
        "early_stopping",
        "serialization",
        "trusted_types",
        "code_paths",
    )

    def __init__(
        self,
        *,
        dataset: Any,
        estimator: str | dict[str, Any] | Callable[..., Any],
        features: Sequence[str],
        target: str,
        estimator_params: dict[str, Any] | None = None,
        seed: Any = 0,
        categorical: Sequence[str] = (),
        class_weight: str | dict[Any, float] | None = None,
        weight_column: str | None = None,
        early_stopping: dict[str, Any] | None = None,
        serialization: Literal["skops", "cloudpickle"] = "skops",
        trusted_types: Sequence[str] = (),
        code_paths: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.estimator = estimator
        self.features = features
        self.target = target
        self.estimator_params = estimator_params
        self.seed = seed
        self.categorical = categorical
        self.class_weight = class_weight
        self.weight_column = weight_column
        self.early_stopping = early_stopping
        self.serialization = serialization
        self.trusted_types = trusted_types
        self.code_paths = code_paths

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
        from airflow_mlops_provider.steps.estimators import describe

        weights = self.class_weight
        return TrainingSpec.from_xcom(
            {
                "dataset": DatasetRef.from_xcom(self.dataset),
                "estimator": describe(self.estimator),
                "features": list(self.features),
                "target": self.target,
                "params": self.estimator_params or {},
                "seed": self.seed,
                "categorical": list(self.categorical),
                "class_weight": {str(key): weight for key, weight in weights.items()}
                if isinstance(weights, dict)
                else weights,
                "weight_column": self.weight_column,
                "early_stopping": self.early_stopping,
                "serialization": self.serialization,
                "trusted_types": list(self.trusted_types),
                "code_paths": list(self.code_paths),
            }
        )

    def handed_over(self, model: ModelRef) -> dict[str, Any]:
        """Say what was logged, and return it for the tasks that follow."""
        self.log.info("Logged %s, trained with %s", model.model_uri, model.params)
        return model.to_xcom()
