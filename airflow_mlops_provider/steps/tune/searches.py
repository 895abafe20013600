"""Grid, random and halving searches of scikit-learn, told by the same ranges."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # makes the next importable
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, HalvingRandomSearchCV, RandomizedSearchCV

from airflow_mlops_provider.steps.fit import TrainingRows
from airflow_mlops_provider.steps.tune.backends import threads_of
from airflow_mlops_provider.steps.tune.problem import build, fitted
from airflow_mlops_provider.steps.tune.space import distribution_of, first_values, grid_of
from airflow_mlops_provider.steps.tune.trials import (
    COMPLETE,
    FAIL,
    PRUNED,
    Trial,
)

if TYPE_CHECKING:
    from airflow_mlops_provider.records import SearchSpec
    from airflow_mlops_provider.steps.tune.problem import Problem

_ERROR_LINE = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Exit)\b.*)$", re.MULTILINE)


class Candidate(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Any estimator of ours, as scikit-learn wants to set its parameters."""

    def __init__(
        self, spec: Any, factory: Any, params: Any, deadline: float, n_workers: int
    ) -> None:
        self.spec = spec
        self.factory = factory
        self.params = params
        self.deadline = deadline
        self.n_workers = n_workers

    def set_params(self, **params: Any) -> Candidate:
        """Take parameters of the estimator, not of this class."""
        self.params = params
        return self

    def fit(self, rows: Any, labels: Any, sample_weight: Any = None) -> Candidate:
        """Build the estimator and fit it, unless time is over."""
        if time.time() >= self.deadline:
            raise TimeoutError("timeout_seconds were over before this fit began")
        with threads_of(self.n_workers):
            learned = TrainingRows(rows, labels, sample_weight)
            self.model_ = fitted(self.spec, self.factory, self.params, learned)
        return self

    def __sklearn_tags__(self) -> Any:
        return build(self.spec, self.factory, self.params).__sklearn_tags__()


class _Score:
    """A scorer that asks the estimator inside."""

    def __init__(self, scoring: str) -> None:
        self._scorer = get_scorer(scoring)

    def __call__(self, candidate: Candidate, rows: Any, labels: Any) -> float:
        return float(self._scorer(candidate.model_, rows, labels))


def search_with_sklearn(problem: Problem, search: SearchSpec) -> list[Trial]:
    """Run the whole search; a candidate that a halving search dropped is PRUNED."""
    deadline = time.time() + (search.timeout_seconds or float("inf"))
    first = first_values(search.space)
    candidate = Candidate(problem.spec, problem.factory, first, deadline, search.n_workers)
    searched = _search(candidate, problem, search)
    rows = problem.rows
    weights = {} if rows.weights is None else {"sample_weight": rows.weights}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            searched.fit(rows.features, rows.target, **weights)
        except ValueError as error:  # all fits failed
            if not _ERROR_LINE.search(str(error)):
                raise
            return [Trial(number=0, params={}, state=FAIL, error=_first_error(str(error)))]
    said = [str(each.message) for each in caught if issubclass(each.category, FitFailedWarning)]
    why = _first_error("\n".join(said)) if said else f"{problem.scoring} is not a finite number"
    return _trials(searched.cv_results_, len(problem.folds), why)


def _first_error(text: str) -> str | None:
    found = _ERROR_LINE.findall(text)
    return found[0][:500] if found else None


def _search(candidate: Candidate, problem: Problem, search: SearchSpec) -> Any:
    shared = {
        "scoring": _Score(problem.scoring),
        "cv": problem.folds,
        "n_jobs": search.n_workers,
        "error_score": np.nan,
        "refit": False,
    }
    if search.method == "grid":
        grid = {name: grid_of(wanted) for name, wanted in search.space.items()}
        return GridSearchCV(candidate, grid, **shared)
    drawn = {name: distribution_of(wanted) for name, wanted in search.space.items()}
    shared["random_state"] = search.seed
    if search.method == "random":
        return RandomizedSearchCV(candidate, drawn, n_iter=search.n_trials, **shared)
    return HalvingRandomSearchCV(
        candidate, drawn, n_candidates=search.n_trials, min_resources="exhaust", **shared
    )


def _trials(results: Mapping[str, Any], n_folds: int, error: str | None) -> list[Trial]:
    """Return a row for each candidate, of the last and largest sample that it was fitted on."""
    all_params = results["params"]
    rungs = results.get("iter", np.zeros(len(all_params), int))
    rows: dict[Any, int] = {}
    for row, params in enumerate(all_params):  # only a halving search fits a candidate again
        rows[repr(sorted(params.items())) if "iter" in results else row] = row
    return [
        _trial(number, results, row, n_folds, error, dropped=rungs[row] < max(rungs))
        for number, row in enumerate(rows.values())
    ]


def _trial(
    number: int,
    results: Mapping[str, Any],
    row: int,
    n_folds: int,
    error: str | None,
    *,
    dropped: bool,
) -> Trial:
    folds = [float(results[f"split{fold}_test_score"][row]) for fold in range(n_folds)]
    failed = not np.isfinite(folds).all()
    score = None if failed else float(np.mean(folds))
    each = results["mean_fit_time"][row] + results["mean_score_time"][row]
    return Trial(
        number=number,
        params={key: _plain(value) for key, value in results["params"][row].items()},
        state=FAIL if failed else PRUNED if dropped else COMPLETE,
        score=score,
        seconds=float(each) * n_folds,
        fold_scores=[value for value in folds if np.isfinite(value)],
        error=error if failed else None,
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
