"""The search as one task tells it: prepare, search, keep the table, train with the best."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import ModelRef, SearchSpec, StudyRef, TrainingSpec
from airflow_mlops_provider.steps.extras import required
from airflow_mlops_provider.steps.train import train_model
from airflow_mlops_provider.steps.tune.backends import joblib_backend
from airflow_mlops_provider.steps.tune.checks import check_search, problem_of
from airflow_mlops_provider.steps.tune.searches import search_with_sklearn
from airflow_mlops_provider.steps.tune.trial_log import TrialLog
from airflow_mlops_provider.steps.tune.trials import Found, Progress, best_of, progress_of

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.track import TaskRun
    from airflow_mlops_provider.steps.tune.problem import Problem


@dataclass(frozen=True)
class Tuning:
    """What :func:`~airflow_mlops_provider.steps.tune.tune_model` was given."""

    spec: TrainingSpec
    search: SearchSpec
    run: TaskRun
    factory: Callable[..., Any] | None
    workspace: str | None
    storage: str | None
    progress: Progress | None

    def tune(self) -> ModelRef:
        """Search, and train with the best."""
        search, run = self.search, self.run
        check_search(search)
        problem = problem_of(self.spec, search, self.factory)
        run.log_record(replace(search, backend_params={}))
        with joblib_backend(search.joblib_backend, search.backend_params, search.n_workers):
            found = self._searched(problem)
            self._keep(found)
            best = best_of(found.trials)
            run.log_metrics({"tune_best_score": float(best.score or 0)})
            chosen = replace(self.spec, params={**self.spec.params, **best.params})
            return train_model(chosen, run=run, factory=self.factory)

    def work(self, worker: int) -> StudyRef:
        """Run trials of a study that others work on as well."""
        search = self.search
        check_search(search)
        if search.method != "optuna":
            raise ParameterError.of("method", "run_trials", "'optuna'", search.method)
        problem = problem_of(self.spec, search, self.factory)
        with joblib_backend(search.joblib_backend, search.backend_params, search.n_workers):
            found = self._with_optuna(problem, worker)
        scores = [trial.score for trial in found.trials if trial.score is not None]
        return StudyRef(
            name=str(found.study),
            ran=found.ran,
            finished=found.finished,
            best_score=max(scores, default=None),
        )

    def _searched(self, problem: Problem) -> Found:
        if self.search.method == "optuna":
            return self._with_optuna(problem, None)
        trials = search_with_sklearn(problem, self.search)
        TrialLog(self.run, None, self.run.run_id).log_missing(trials)
        if self.progress:
            self.progress(progress_of(None, trials, trials[-1], len(trials)))
        return Found(study=None, trials=trials, ran=len(trials))

    def _with_optuna(self, problem: Problem, worker: int | None) -> Found:
        """Bring the study of this search to ``n_trials``, and return all its trials."""
        _need_optuna()
        from airflow_mlops_provider.steps.tune import optuna_search
        from airflow_mlops_provider.steps.tune import study as studies

        identity = studies.identity_of(self.spec, self.search, problem.scoring)
        temporary = tempfile.TemporaryDirectory() if self.workspace is None else nullcontext()
        with temporary as folder:
            name = self.search.study or studies.name_of(identity)
            place = studies.place_of(name, self.workspace or str(folder), self.storage)
            study = studies.create(place, identity)
            log = TrialLog(self.run, name, studies.uid_of(study))
            ran = 0
            for trial in optuna_search.fill(place, problem, self.search, worker):
                log.log(trial)
                ran += 1
                if self.progress:
                    trials = studies.trials_of(study)
                    self.progress(progress_of(name, trials, trial, self.search.n_trials))
            trials = studies.trials_of(study)
            if worker is None:
                log.log_missing(trials)
            weighed = optuna_search.importances(study)
            return Found(study=name, trials=trials, ran=ran, importances=weighed)

    def _keep(self, found: Found) -> None:
        rows = [asdict(trial) for trial in found.trials]
        table = {"study": found.study, "importances": found.importances, "trials": rows}
        self.run.client.log_dict(self.run.run_id, table, "trials.json")
        self.run.log_metrics({"tune_trials": float(found.finished)})


def _need_optuna() -> None:
    optuna = required("optuna", "optuna", "to search with it (or choose another `method`)")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
