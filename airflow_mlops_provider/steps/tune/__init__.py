"""Search an estimator's parameters, then fit the best on all rows.

Trials are judged by cross-validation, by default in time order: a model is never tuned on rows
older than those it learned from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import StudyRef
from airflow_mlops_provider.steps.train import train_model
from airflow_mlops_provider.steps.tune.backends import joblib_backend, stop_workers
from airflow_mlops_provider.steps.tune.problem import check_search, problem_of
from airflow_mlops_provider.steps.tune.searches import search_with_sklearn
from airflow_mlops_provider.steps.tune.trials import Found, Progress, best_of

if TYPE_CHECKING:
    from airflow_mlops_provider.records import ModelRef, SearchSpec, TrainingSpec
    from airflow_mlops_provider.steps.track import TaskRun

__all__ = ["run_trials", "stop_workers", "tune_model"]


def tune_model(
    spec: TrainingSpec,
    search: SearchSpec,
    *,
    run: TaskRun,
    factory: Callable[..., Any] | None = None,
    workspace: str | None = None,
    storage: str | None = None,
    progress: Progress | None = None,
) -> ModelRef:
    """Find the parameters with the best cross-validated score, and train with them.

    Args:
        spec: What to train; for ``cv="time"`` its dataset is in time order. Its ``params`` stay
            as they are.
        search: Where to look, how, and how often. Scores are those of scikit-learn's scorers:
            greater is better.
        run: The open MLflow run; trials are kept in it as ``trials.json``, and each as a run
            nested in it.
        factory: As in :func:`~airflow_mlops_provider.steps.train.train_model`.
        workspace: Keeps Optuna's studies, so that a retry goes on where another attempt died;
            by default the study ends with the call.
        storage: SQLAlchemy URL of a database that keeps the studies instead.
        progress: Is told after each trial how far the search is.

    Raises:
        ParameterError: the search cannot be run, or the study named holds another one's trials.
        DataError: a column is missing, or a study's file cannot be read.
        ModelError: no trial got a score.
        ServiceError: a worker process died, or the database of the study does not answer.
    """
    check_search(search)
    problem = problem_of(spec, search, factory)
    run.log_record(replace(search, backend_params={}))
    with joblib_backend(search.joblib_backend, search.backend_params, search.n_workers):
        if search.method == "optuna":
            found = _optuna().search_with_optuna(
                spec, search, problem, run, workspace, storage, progress
            )
        else:
            found = search_with_sklearn(problem, search, run, progress)
        _keep(found, run)
        best = best_of(found.trials)
        run.log_metrics({"tune_best_score": float(best.score or 0)})
        chosen = replace(spec, params={**spec.params, **best.params})
        return train_model(chosen, run=run, factory=factory)


def run_trials(
    spec: TrainingSpec,
    search: SearchSpec,
    *,
    run: TaskRun,
    factory: Callable[..., Any] | None = None,
    workspace: str | None = None,
    storage: str | None = None,
    worker: int = 0,
    progress: Progress | None = None,
) -> StudyRef:
    """Run trials of a study that others work on as well, until it holds ``n_trials``.

    Args:
        spec: As in :func:`tune_model`, which trains with the best when all workers are done.
        search: The same for all workers.
        run: The open MLflow run; each trial that is run here is a run nested in it.
        factory: As in :func:`tune_model`.
        workspace: Keeps the study, on a file system that all workers share.
        storage: SQLAlchemy URL of a database that keeps the study instead.
        worker: Number of this worker.
        progress: Is told after each trial how far the search is.

    Raises:
        ParameterError: as in :func:`tune_model`, or Optuna is not the method.
        DataError: as in :func:`tune_model`.
        ServiceError: as in :func:`tune_model`.
    """
    check_search(search)
    if search.method != "optuna":
        raise ParameterError.of("method", "run_trials", "'optuna'", search.method)
    problem = problem_of(spec, search, factory)
    with joblib_backend(search.joblib_backend, search.backend_params, search.n_workers):
        found = _optuna().search_with_optuna(
            spec, search, problem, run, workspace, storage, progress, worker=worker
        )
    scores = [trial.score for trial in found.trials if trial.score is not None]
    return StudyRef(
        name=found.study,
        ran=found.ran,
        finished=sum(trial.finished for trial in found.trials),
        best_score=max(scores, default=None),
    )


def _keep(found: Found, run: TaskRun) -> None:
    rows = [asdict(trial) for trial in found.trials]
    table = {"study": found.study, "importances": found.importances, "trials": rows}
    run.client.log_dict(run.run_id, table, "trials.json")
    run.log_metrics({"tune_trials": float(sum(trial.finished for trial in found.trials))})


def _optuna() -> ModuleType:
    try:
        import optuna  # noqa: F401  # told apart from what may be wrong in our own module
    except ImportError as error:
        raise ParameterError(
            "Searching with Optuna needs Optuna. Install `airflow-provider-mlops[optuna]`, or "
            "choose another `method`."
        ) from error
    from airflow_mlops_provider.steps.tune import optuna_search

    return optuna_search
