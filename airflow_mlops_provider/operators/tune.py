"""Search the parameters of a model, and fit it with the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.hooks.sql import database_url
from airflow_mlops_provider.operators.train import TrainModelOperator
from airflow_mlops_provider.records import SearchSpec

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.steps.track import TaskRun

PROGRESS_KEY = "tuning"
"""Where the task state store of a searching task says how far it is."""
_PROGRESS_SECONDS = 2.0


class TuneModelOperator(TrainModelOperator):
    """Search parameters, then train with the best. Gives a ``ModelRef``.

    Optuna's trials are kept in the workspace: a retry, or a clear, goes on with the same study.
    ``seed`` is also that of the sampler and of stratified folds.

    Args:
        search_space: Parameter name to ``{"type": "float"|"int", "low": …, "high": …,
            "log": bool}`` or ``{"type": "categorical", "choices": […]}``.
        method: ``optuna``; or scikit-learn's ``grid``, ``random`` or ``halving``.
        n_trials: How many combinations to try; a grid tries all it has.
        n_splits: Folds of the cross-validation.
        cv: ``time`` (a model is judged on rows that are newer than those it learned from),
            ``stratified``, or ``group``.
        group_column: Rows with the same value of it share a fold; for ``cv="group"``.
        scoring: A scikit-learn scorer; by default ``roc_auc`` or ``r2``.
        pruner: ``median`` or ``hyperband`` ends trials early whose first folds are bad.
        study: Name under which Optuna's trials are kept; by default a hash of the dataset, the
            estimator, its parameters, the space, the scorer, the folds and the seed.
        storage_conn_id: Connection of a database that keeps the studies; by default they lie in
            the workspace, which has to be on a file system then.
        n_workers: Processes that run trials at the same time.
        timeout_seconds: After it no trial begins.
        joblib_backend: Where workers run: ``loky`` (processes), ``threading``, ``ray``, ``dask``
            or ``spark``.
        backend_params: Arguments of ``ray.init``, of Dask's ``Client``, or settings of Spark, as
            ``{"address": "{{ conn.dask.host }}:8786"}``; by default a cluster on this machine.
    """

    template_fields: Sequence[str] = (
        *TrainModelOperator.template_fields,
        "search_space",
        "method",
        "n_trials",
        "n_splits",
        "cv",
        "group_column",
        "scoring",
        "pruner",
        "study",
        "storage_conn_id",
        "n_workers",
        "timeout_seconds",
        "joblib_backend",
        "backend_params",
    )

    def __init__(
        self,
        *,
        search_space: dict[str, dict[str, Any]],
        method: str = "optuna",
        n_trials: int = 20,
        n_splits: int = 3,
        cv: str = "time",
        group_column: str | None = None,
        scoring: str | None = None,
        pruner: str | None = None,
        study: str | None = None,
        storage_conn_id: str | None = None,
        n_workers: int = 1,
        timeout_seconds: float | None = None,
        joblib_backend: str = "loky",
        backend_params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.search_space = search_space
        self.method = method
        self.n_trials = n_trials
        self.n_splits = n_splits
        self.cv = cv
        self.group_column = group_column
        self.scoring = scoring
        self.pruner = pruner
        self.study = study
        self.storage_conn_id = storage_conn_id
        self.n_workers = n_workers
        self.timeout_seconds = timeout_seconds
        self.joblib_backend = joblib_backend
        self.backend_params = backend_params

    def execute(self, context: Context) -> dict[str, Any]:
        """Tune, train with the best parameters, and log both."""
        with self.tracked_run(context) as run:
            model = self.search("tune.tune_model", run, context)
            run.log_record(model)
        return self.handed_over(model)

    def on_kill(self) -> None:
        """End the worker processes along with the task."""
        from airflow_mlops_provider.steps.tune import stop_workers

        stop_workers()
        super().on_kill()

    def search(self, step: str, run: TaskRun, context: Context, **given: Any) -> Any:
        """Run ``step`` on what is trained and how it is searched."""
        return self.run_step(
            step,
            self.training_spec(),
            self.search_spec(),
            run=run,
            factory=self.factory,
            workspace=self.workspace_uri,
            storage=self.storage_url,
            progress=self.progress(context),
            **given,
        )

    def search_spec(self) -> SearchSpec:
        """Return how to search, known once the task runs."""
        return SearchSpec(
            space=self.search_space,
            method=self.method,
            n_trials=int(self.n_trials),
            n_splits=int(self.n_splits),
            cv=self.cv,
            group_column=self.group_column,
            scoring=self.scoring,
            seed=None if self.seed is None else int(self.seed),
            pruner=self.pruner,
            study=self.study,
            n_workers=int(self.n_workers),
            timeout_seconds=None if self.timeout_seconds is None else float(self.timeout_seconds),
            joblib_backend=self.joblib_backend,
            backend_params=self.backend_params or {},
        )

    @property
    def storage_url(self) -> str | None:
        """The database of the studies, if there is one."""
        return database_url(self.storage_conn_id) if self.storage_conn_id else None

    def progress(self, context: Context) -> Callable[[dict[str, Any]], None]:
        """Return what logs how far the search is, and keeps it as task state, now and then."""
        state = context.get("task_state_store")
        told = 0.0

        def tell(progress: dict[str, Any]) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told < _PROGRESS_SECONDS and progress["finished"] < progress["n_trials"]:
                return
            told = now
            self.log.info("Trial %(finished)s of %(n_trials)s: best score %(best_score)s", progress)
            self.log.info("The last one: %s", progress["last"])
            if state is not None:
                state.set(PROGRESS_KEY, progress)

        return tell


class RunTrialsOperator(TuneModelOperator):
    """Run trials of a study that several tasks share. Gives a ``StudyRef``.

    Map it over ``worker``, and let a ``TuneModelOperator`` with the same arguments follow, which
    trains with the best: both find the study by what is searched.

    Args:
        worker: Number of this worker.
    """

    template_fields: Sequence[str] = (*TuneModelOperator.template_fields, "worker")

    def __init__(self, *, worker: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.worker = worker

    def execute(self, context: Context) -> dict[str, Any]:
        """Run trials until the study holds enough, and log each."""
        with self.tracked_run(context) as run:
            study = self.search("tune.run_trials", run, context, worker=int(self.worker))
            run.log_record(study)
        self.log.info("Ran %d of %d trials of study %s", study.ran, study.finished, study.name)
        payload: dict[str, Any] = study.to_xcom()
        return payload
