"""Search an estimator's parameters with Optuna, then fit the best on all rows.

Trials are judged by cross-validation in time order: a model is never tuned on rows older than
those it learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sklearn.base import is_classifier
from sklearn.model_selection import TimeSeriesSplit, cross_val_score

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.train import build_estimator, labelled_rows, train_model

if TYPE_CHECKING:
    import optuna

    from airflow_mlops_provider.records import ModelRef, SearchSpec, TrainingSpec
    from airflow_mlops_provider.steps.track import TaskRun

_KINDS = ("float", "int", "categorical")


def tune_model(
    spec: TrainingSpec,
    search: SearchSpec,
    *,
    run: TaskRun,
    factory: Callable[..., Any] | None = None,
) -> ModelRef:
    """Find the parameters with the best cross-validated score, and train with them.

    Args:
        spec: What to train; its dataset is in time order, its ``params`` stay as they are.
        search: Where to look, and how often.
        run: The open MLflow run; trials are kept in it as ``trials.json``.
        factory: As in :func:`~airflow_mlops_provider.steps.train.train_model`.
    """
    _check_space(search.space)
    rows, labels = labelled_rows(spec.dataset, spec.features, spec.target)
    study = _study(search.seed)
    folds = TimeSeriesSplit(search.n_splits)

    def objective(trial: optuna.Trial) -> float:
        params = spec.params | _suggest(trial, search.space)
        model = build_estimator(factory or spec.estimator, params)
        metric = search.scoring or ("roc_auc" if is_classifier(model) else "r2")
        return float(cross_val_score(model, rows, labels, cv=folds, scoring=metric).mean())

    study.optimize(objective, n_trials=search.n_trials)
    trials = [{"params": trial.params, "score": trial.value} for trial in study.trials]
    run.client.log_dict(run.run_id, {"trials": trials}, "trials.json")
    run.log_metrics({"tune_best_score": study.best_value, "tune_trials": float(len(trials))})
    best = replace(spec, params=spec.params | study.best_params)
    return train_model(best, run=run, factory=factory)


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
