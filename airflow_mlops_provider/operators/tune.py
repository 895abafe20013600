"""Search the parameters of a model, and fit it with the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.operators.train import TrainModelOperator
from airflow_mlops_provider.records import SearchSpec

if TYPE_CHECKING:
    from airflow.sdk import Context


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
        with self.tracked_run(context) as run:
            model = self.run_step(
                "tune.tune_model",
                self.training_spec(),
                self.search_spec(),
                run=run,
                factory=self.factory,
            )
            run.log_record(model)
        return self.handed_over(model)

    def search_spec(self) -> SearchSpec:
        """Return how to search, known once the task runs."""
        return SearchSpec(
            space=self.search_space,
            n_trials=int(self.n_trials),
            n_splits=int(self.n_splits),
            scoring=self.scoring,
            seed=int(self.seed),
        )
