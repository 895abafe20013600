"""What a set of parameters is judged by: an estimator, rows, folds and a scorer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sklearn.base import is_classifier
from sklearn.metrics import get_scorer
from sklearn.model_selection import GroupKFold, StratifiedKFold, TimeSeriesSplit

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.train import build_estimator, labelled_rows
from airflow_mlops_provider.steps.tune.space import check_space, first_values

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from airflow_mlops_provider.records import SearchSpec, TrainingSpec

METHODS = ("optuna", "grid", "random", "halving")
FOLDS = ("time", "stratified", "group")
PRUNERS = (None, "median", "hyperband")
BACKENDS = ("loky", "threading", "ray", "dask", "spark")


@dataclass(frozen=True)
class Problem:
    """All it takes to score a set of parameters, in this process or in another."""

    estimator: str | Callable[..., Any]
    params: Mapping[str, Any]
    rows: pd.DataFrame
    labels: pd.Series[Any]
    folds: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
    scoring: str

    def build(self, params: Mapping[str, Any]) -> Any:
        """Return the estimator with the fixed parameters and ``params``."""
        return build_estimator(self.estimator, {**self.params, **params})

    def scores(self, params: Mapping[str, Any]) -> Iterator[float]:
        """Fit and score fold after fold.

        Raises:
            ValueError: a score is not a finite number.
        """
        scorer = get_scorer(self.scoring)
        for number, (train, test) in enumerate(self.folds):
            model = self.build(params).fit(self.rows.iloc[train], self.labels.iloc[train])
            score = float(scorer(model, self.rows.iloc[test], self.labels.iloc[test]))
            if not math.isfinite(score):
                raise ValueError(f"{self.scoring} is {score} on fold {number}")
            yield score


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
    estimator = factory or spec.estimator
    model = _probe(spec, search, estimator)
    scoring = search.scoring or ("roc_auc" if is_classifier(model) else "r2")
    _check_scoring(scoring, model)
    columns = spec.features if search.group_column is None else _with(spec, search.group_column)
    rows, labels = labelled_rows(spec.dataset, columns, spec.target)
    return Problem(
        estimator, spec.params, rows[spec.features], labels, _folds(search, rows, labels), scoring
    )


def _with(spec: TrainingSpec, column: str) -> list[str]:
    return list(dict.fromkeys([*spec.features, column]))


def _probe(spec: TrainingSpec, search: SearchSpec, estimator: str | Callable[..., Any]) -> Any:
    """Build the estimator once, so that a wrong name fails before any trial."""
    if fixed := spec.params.keys() & search.space.keys():
        constraint = "made of parameters that estimator_params does not fix"
        raise ParameterError.of("search_space", "tune", constraint, sorted(fixed))
    return build_estimator(estimator, spec.params | first_values(search.space))


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


def _folds(search: SearchSpec, rows: pd.DataFrame, labels: pd.Series[Any]) -> list[Any]:
    groups = None if search.group_column is None else rows[search.group_column]
    try:
        splitter = {
            "time": lambda: TimeSeriesSplit(search.n_splits),
            "stratified": lambda: StratifiedKFold(
                search.n_splits, shuffle=True, random_state=search.seed
            ),
            "group": lambda: GroupKFold(search.n_splits),
        }[search.cv]()
        return list(splitter.split(rows, labels, groups))
    except ValueError as error:
        constraint = f"a number of folds that {len(rows)} labelled rows can be cut into ({error})"
        raise ParameterError.of("n_splits", "tune", constraint, search.n_splits) from error
