"""One row for each trial, whoever ran it, and one MLflow run for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from airflow_mlops_provider.exceptions import ModelError
from airflow_mlops_provider.steps.track import KIND, quoted

if TYPE_CHECKING:
    from mlflow.entities import Run

    from airflow_mlops_provider.steps.track import TaskRun

COMPLETE, PRUNED, FAIL, INTERRUPTED = "COMPLETE", "PRUNED", "FAIL", "INTERRUPTED"
STUDY, UID, TRIAL = "mlops.study", "mlops.study_uid", "mlops.trial"
Progress = Callable[[dict[str, Any]], None]
_ERROR_LENGTH = 500
_PAGE = 1_000
_STATUS = {COMPLETE: "FINISHED", PRUNED: "FINISHED", FAIL: "FAILED", INTERRUPTED: "KILLED"}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A set of parameters, and how it did."""

    number: int
    params: dict[str, Any]
    state: str
    score: float | None = None
    seconds: float | None = None
    fold_scores: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def finished(self) -> bool:
        """Whether it came to an end of its own, good or bad."""
        return self.state != INTERRUPTED


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to."""

    study: str | None
    trials: list[Trial]
    ran: int
    """How many of the trials this task ran."""
    importances: dict[str, float] | None = None


def reason(error: BaseException) -> str:
    """Return the first line of an error, with its type."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:_ERROR_LENGTH]


def best_of(trials: Sequence[Trial]) -> Trial:
    """Return the first trial with the highest score.

    Raises:
        ModelError: no trial has a score; the message gives the first reason.
    """
    complete = [trial for trial in trials if trial.score is not None and trial.state == COMPLETE]
    if complete:
        return max(complete, key=lambda trial: (trial.score, -trial.number))
    errors = [trial.error for trial in trials if trial.error]
    why = f"the first failed with {errors[0]}" if errors else "none ended within timeout_seconds"
    raise ModelError(
        f"Expected a trial with a score, got none in {len(trials)}: {why}. Correct the estimator, "
        "its parameters, the scorer or the data."
    )


def progress_of(study: str | None, trials: Sequence[Trial], n_trials: int) -> dict[str, Any]:
    """Return in a few JSON values how far a search is."""
    finished = [trial for trial in trials if trial.finished]
    scores = [trial.score for trial in finished if trial.score is not None]
    return {
        "study": study,
        "finished": len(finished),
        "n_trials": n_trials,
        "pruned": sum(trial.state == PRUNED for trial in finished),
        "failed": sum(trial.state == FAIL for trial in finished),
        "best_score": max(scores, default=None),
        "last": asdict(finished[-1]) if finished else None,
    }


@dataclass(frozen=True)
class TrialLog:
    """Where the trials of a study become MLflow runs, nested in the run of a task."""

    run: TaskRun
    study: str | None
    uid: str
    """Tells this study from another one of the same name."""

    def log(self, trial: Trial) -> None:
        """Log a trial as an MLflow run of its own, in three requests."""
        run = self.run
        tags = {
            MLFLOW_PARENT_RUN_ID: run.run_id,
            KIND: "trial",
            UID: self.uid,
            **({STUDY: self.study} if self.study else {}),
            TRIAL: str(trial.number),
        }
        name = f"trial {trial.number}"
        self._write(run.client.create_run(run.experiment_id, tags=tags, run_name=name), trial)

    def log_missing(self, trials: Iterable[Trial]) -> None:
        """Log the trials that no task has logged, because it was killed, say."""
        logged = self._logged()
        for trial in trials:
            found = logged.get(str(trial.number))
            if found is None:
                self.log(trial)
            elif found.info.status == "RUNNING":
                self._write(found, trial)

    def _write(self, opened: Run, trial: Trial) -> None:
        now = int(time.time() * 1000)
        values = {"score": trial.score, "seconds": trial.seconds}
        metrics = [Metric(key, each, now, 0) for key, each in values.items() if each is not None]
        metrics += [Metric("fold_score", each, now, n) for n, each in enumerate(trial.fold_scores)]
        params = [Param(key, str(value)) for key, value in trial.params.items()]
        tags = [RunTag("mlops.state", trial.state)]
        if trial.error:
            tags.append(RunTag("mlops.error", trial.error))
        client, run_id = self.run.client, opened.info.run_id
        client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
        client.set_terminated(run_id, _STATUS[trial.state])

    def _logged(self) -> dict[str, Run]:
        query = f"tags.`{UID}` = {quoted(self.uid)}"
        found: dict[str, Run] = {}
        token = None
        while True:
            page = self.run.client.search_runs(
                [self.run.experiment_id], query, max_results=_PAGE, page_token=token
            )
            found |= {each.data.tags[TRIAL]: each for each in page}
            token = page.token
            if not token:
                return found
