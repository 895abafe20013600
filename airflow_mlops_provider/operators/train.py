"""Fit a model on a dataset, with parameters given or searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.records import DatasetRef

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.records import ModelRef


class TrainModelOperator(MlopsOperator):
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
        *MlopsOperator.shared_template_fields,
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
        from airflow_mlops_provider.steps.train import train_model

        with self.tracked_run(context) as run:
            model = train_model(
                DatasetRef.from_xcom(self.dataset),
                self.estimator,
                run=run,
                features=self.features,
                target=self.target,
                params=self.estimator_params,
                trusted_types=self.trusted_types,
            )
            run.log_record(model)
        return self._handed_over(model)

    def _handed_over(self, model: ModelRef) -> dict[str, Any]:
        self.log.info("Logged %s, trained with %s", model.model_uri, model.params)
        return model.to_xcom()


class TuneModelOperator(TrainModelOperator):
    """Search parameters with Optuna, then train with the best. Gives a ``ModelRef``.

    Args:
        search_space: Parameter name to ``{"type": "float"|"int", "low": …, "high": …,
            "log": bool}`` or ``{"type": "categorical", "choices": […]}``.
        n_trials: How many combinations to try.
        n_splits: Folds of the time-ordered cross-validation.
        scoring: A scikit-learn scorer; by default ``roc_auc`` or ``r2``.
        seed: Seed of the sampler.
    """

    template_fields: Sequence[str] = (
        *TrainModelOperator.template_fields,
        "search_space",
        "n_trials",
        "n_splits",
        "scoring",
        "seed",
    )

    def __init__(
        self,
        *,
        search_space: dict[str, dict[str, Any]],
        n_trials: int = 20,
        n_splits: int = 3,
        scoring: str | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.search_space = search_space
        self.n_trials = n_trials
        self.n_splits = n_splits
        self.scoring = scoring
        self.seed = seed

    def execute(self, context: Context) -> dict[str, Any]:
        """Tune, train with the best parameters, and log both."""
        from airflow_mlops_provider.steps.tune import tune_model

        with self.tracked_run(context) as run:
            model = tune_model(
                DatasetRef.from_xcom(self.dataset),
                self.estimator,
                run=run,
                features=self.features,
                target=self.target,
                search_space=self.search_space,
                params=self.estimator_params,
                scoring=self.scoring,
                n_trials=int(self.n_trials),
                n_splits=int(self.n_splits),
                seed=int(self.seed),
                trusted_types=self.trusted_types,
            )
            run.log_record(model)
        return self._handed_over(model)
