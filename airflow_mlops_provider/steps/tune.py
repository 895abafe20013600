"""Search an estimator's parameters with Optuna, then fit the best on all rows.

Trials are judged by cross-validation in time order: a model is never tuned on rows older than
those it learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sklearn.base import is_classifier
from sklearn.model_selection import TimeSeriesSplit, cross_val_score

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.train import build_estimator, labelled_rows, train_model

if TYPE_CHECKING:
    import optuna

    from airflow_mlops_provider.records import DatasetRef, ModelRef
    from airflow_mlops_provider.steps.track import TaskRun

_KINDS = ("float", "int", "categorical")


def tune_model(
    dataset: DatasetRef,
    estimator: str | Callable[..., Any],
    *,
    run: TaskRun,
    features: Sequence[str],
    target: str,
    search_space: Mapping[str, Mapping[str, Any]],
    params: Mapping[str, Any] | None = None,
    scoring: str | None = None,
    n_trials: int = 20,
    n_splits: int = 3,
    seed: int = 0,
    trusted_types: Sequence[str] = (),
) -> ModelRef:
    """Find the parameters with the best cross-validated score, and train with them.

    Args:
        dataset: Rows to learn from, in time order.
        estimator: As in :func:`~airflow_mlops_provider.steps.train.train_model`.
        run: The open MLflow run; trials are kept in it as ``trials.json``.
        features: Columns the model sees.
        target: Column it learns to predict.
        search_space: Parameter name to ``{"type": "float"|"int", "low": …, "high": …,
            "log": bool}`` or ``{"type": "categorical", "choices": […]}``.
        params: Parameters that stay as they are.
        scoring: A scikit-learn scorer, higher is better; by default ``roc_auc`` or ``r2``.
        n_trials: How many combinations to try.
        n_splits: Folds of the time-ordered cross-validation.
        seed: Seed of the sampler.
        trusted_types: As in ``train_model``.
    """
    _check_space(search_space)
    rows, labels = labelled_rows(dataset, features, target)
    fixed = dict(params or {})
    study = _study(seed)
    folds = TimeSeriesSplit(n_splits)

    def objective(trial: optuna.Trial) -> float:
        model = build_estimator(estimator, fixed | _suggest(trial, search_space))
        metric = scoring or ("roc_auc" if is_classifier(model) else "r2")
        return float(cross_val_score(model, rows, labels, cv=folds, scoring=metric).mean())

    study.optimize(objective, n_trials=n_trials)
    trials = [{"params": trial.params, "score": trial.value} for trial in study.trials]
    run.client.log_dict(run.run_id, {"trials": trials}, "trials.json")
    run.log_metrics({"tune_best_score": study.best_value, "tune_trials": float(len(trials))})
    return train_model(
        dataset,
        estimator,
        run=run,
        features=features,
        target=target,
        params=fixed | study.best_params,
        trusted_types=trusted_types,
    )


def _study(seed: int) -> optuna.Study:
    try:
        import optuna
    except ImportError as error:
        raise ParameterError(
            "Tuning needs Optuna. Install `airflow-provider-mlops[optuna]`."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))


def _check_space(search_space: Mapping[str, Mapping[str, Any]]) -> None:
    for name, space in search_space.items():
        if space.get("type") not in _KINDS:
            raise ParameterError.of(
                f"search_space[{name!r}]['type']", "tune", f"one of {_KINDS}", space.get("type")
            )


def _suggest(trial: optuna.Trial, search_space: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    suggested = {}
    for name, space in search_space.items():
        arguments = {key: value for key, value in space.items() if key != "type"}
        suggested[name] = getattr(trial, f"suggest_{space['type']}")(name, **arguments)
    return suggested
