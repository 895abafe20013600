"""Refuse a search that could not run, and prepare one that can."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sklearn.base import is_classifier
from sklearn.metrics import get_scorer
from sklearn.model_selection import GroupKFold, StratifiedKFold, TimeSeriesSplit

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.snapshot import read_dataset
from airflow_mlops_provider.steps.train import read_rows
from airflow_mlops_provider.steps.tune.problem import Problem, build
from airflow_mlops_provider.steps.tune.space import check_space, first_values

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlops_provider.records import SearchSpec, TrainingSpec
    from airflow_mlops_provider.steps.fit import TrainingRows

METHODS = ("optuna", "grid", "random", "halving")
FOLDS = ("time", "stratified", "group")
PRUNERS = (None, "median", "hyperband")
BACKENDS = ("loky", "threading", "ray", "dask", "spark")


def check_search(search: SearchSpec) -> None:
    """Refuse a search that could not run, before any data is read.

    Raises:
        ParameterError: a field has a value that cannot be used; the message names it.
    """
    for name, known in {
        "method": METHODS,
        "cv": FOLDS,
        "pruner": PRUNERS,
        "joblib_backend": BACKENDS,
    }.items():
        if getattr(search, name) not in known:
            raise ParameterError.of(name, "tune", f"one of {list(known)}", getattr(search, name))
    for name in ("n_trials", "n_workers"):
        if getattr(search, name) < 1:
            raise ParameterError.of(name, "tune", "at least 1", getattr(search, name))
    if search.timeout_seconds is not None and not search.timeout_seconds > 0:
        raise ParameterError.of("timeout_seconds", "tune", "positive", search.timeout_seconds)
    if search.method != "optuna" and (search.pruner or search.study):
        given = search.pruner or search.study
        raise ParameterError.of("pruner or study", "tune", "left out unless Optuna searches", given)
    if (search.cv == "group") != (search.group_column is not None):
        constraint = 'given if, and only if, cv is "group"'
        raise ParameterError.of("group_column", "tune", constraint, search.group_column)
    check_space(search.space)


def problem_of(
    spec: TrainingSpec, search: SearchSpec, factory: Callable[..., Any] | None
) -> Problem:
    """Read the rows, cut the folds and choose the scorer.

    Raises:
        DataError: a column is missing, or no row has a target.
        ParameterError: the estimator does not take the parameters, there are more folds than
            rows, or the scorer is unknown or asks what the estimator does not offer.
    """
    model = _probe(spec, search, factory)
    scoring = search.scoring or ("roc_auc" if is_classifier(model) else "r2")
    _check_scoring(scoring, model)
    rows = read_rows(spec)
    return Problem(spec, factory, rows, _folds(spec, search, rows), scoring)


def _probe(spec: TrainingSpec, search: SearchSpec, factory: Callable[..., Any] | None) -> Any:
    """Build the estimator once, so that a wrong name fails before any trial."""
    if fixed := spec.params.keys() & search.space.keys():
        constraint = "made of parameters that estimator_params does not fix"
        raise ParameterError.of("search_space", "tune", constraint, sorted(fixed))
    return build(spec, factory, first_values(search.space))


def _check_scoring(scoring: str, model: Any) -> None:
    try:
        scorer = get_scorer(scoring)
    except ValueError as error:
        constraint = "a scorer of sklearn.metrics.get_scorer_names()"
        raise ParameterError.of("scoring", "tune", constraint, scoring) from error
    asked = getattr(scorer, "_response_method", "predict")  # scikit-learn tells it nowhere else
    asked = (asked,) if isinstance(asked, str) else asked
    if asked != ("default",) and not any(hasattr(model, method) for method in asked):
        constraint = f"a scorer that {type(model).__name__} can serve, which has no {asked[0]}"
        raise ParameterError.of("scoring", "tune", constraint, scoring)


def _folds(spec: TrainingSpec, search: SearchSpec, rows: TrainingRows) -> list[Any]:
    groups = _groups(spec, search.group_column) if search.group_column else None
    try:
        splitter = {
            "time": lambda: TimeSeriesSplit(search.n_splits),
            "stratified": lambda: StratifiedKFold(
                search.n_splits, shuffle=True, random_state=search.seed
            ),
            "group": lambda: GroupKFold(search.n_splits),
        }[search.cv]()
        return list(splitter.split(rows.features, rows.target, groups))
    except ValueError as error:
        constraint = f"a number of folds for {len(rows.target)} labelled rows ({error})"
        raise ParameterError.of("n_splits", "tune", constraint, search.n_splits) from error


def _groups(spec: TrainingSpec, column: str) -> pd.Series[Any]:
    if column not in spec.dataset.columns:
        constraint = f"one of the columns {sorted(spec.dataset.columns)}"
        raise ParameterError.of("group_column", "tune", constraint, column)
    frame = read_dataset(spec.dataset, columns=list({column, spec.target}))
    return frame.loc[frame[spec.target].notna(), column]
