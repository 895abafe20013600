"""Trials as MLflow runs, nested in the run of the task that ran them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from airflow_mlops_provider.steps.find_runs import quoted
from airflow_mlops_provider.steps.metadata import KIND
from airflow_mlops_provider.steps.tune.trials import COMPLETE, FAIL, INTERRUPTED, PRUNED, Trial

if TYPE_CHECKING:
    from mlflow.entities import Run

    from airflow_mlops_provider.steps.track import TaskRun

STUDY, UID, TRIAL = "mlops.study", "mlops.study_uid", "mlops.trial"
_PAGE = 1_000
_STATUS = {COMPLETE: "FINISHED", PRUNED: "FINISHED", FAIL: "FAILED", INTERRUPTED: "KILLED"}


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
