"""Search an estimator's parameters, then fit the best on all rows.

Trials are judged by cross-validation, by default in time order: a model is never tuned on rows
older than those it learned from.

Worker processes import this package: what it needs of MLflow comes late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops_provider.records import ModelRef, SearchSpec, StudyRef, TrainingSpec
    from airflow_mlops_provider.steps.track import TaskRun
    from airflow_mlops_provider.steps.tune.trials import Progress


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
    from airflow_mlops_provider.steps.tune.tuning import Tuning

    return Tuning(spec, search, run, factory, workspace, storage, progress).tune()


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
    from airflow_mlops_provider.steps.tune.tuning import Tuning

    return Tuning(spec, search, run, factory, workspace, storage, progress).work(worker)


def stop_workers() -> None:
    """End the worker processes of this process, in the midst of what they do."""
    from airflow_mlops_provider.steps.tune.backends import stop_workers

    stop_workers()
