"""Training and judging in the replay, by the steps and the rules of the level 1 pipeline.

Left out are the search for parameters (all models have the same) and the checks that would say
the same each time: of behaviour, and of the artifact in a clean process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import mlflow

from airflow_mlops_provider.records import (
    EvaluationReport,
    EvaluationSpec,
    GateVerdict,
    ModelRef,
    SplitRef,
    TrainingSpec,
)
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.evaluate.judge import evaluate_model
from airflow_mlops_provider.steps.gate import Rule, judge_challenger
from airflow_mlops_provider.steps.metadata import TASK_ID
from airflow_mlops_provider.steps.split import split_dataset
from airflow_mlops_provider.steps.track import TaskRun, experiment_id, task_run
from airflow_mlops_provider.steps.train import train_model
from airflow_mlops_provider.workspace import join
from flights.columns import FEATURES, TARGET, TIME
from flights.replay_data import training_set
from flights.settings import ESTIMATOR

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

PARAMETERS = {"max_iter": 60, "learning_rate": 0.1}
RULE = Rule(mode="non_inferiority", margin=0.01, floors={"auc": 0.6}, slice_floor=0.55)
"""That of ``level1_continuous_training``."""
_SLICES: list[str | dict[str, Any]] = ["origin", {"column": "distance", "bins": 4}]


@dataclass(frozen=True)
class Candidate:
    """A model, with all that monitoring and the gate ask of it."""

    month: str
    """The last of the months it learned from."""
    model: ModelRef
    evaluation: EvaluationReport
    profile_uri: str

    @property
    def fit_seconds(self) -> float:
        """What fitting it took."""
        return self.model.metrics["fit_seconds"]


class Workshop:
    """Trains and judges models; what was done once is not done again.

    Args:
        workspace: fsspec URI of the workspace, in which the year has landed.
        tracking_uri: An MLflow store, which is also the one in force.
    """

    def __init__(self, workspace: str, tracking_uri: str) -> None:
        self.workspace = workspace
        self._client = mlflow.MlflowClient(tracking_uri, tracking_uri)
        self._experiment = experiment_id(self._client, "replay", join(workspace, "artifacts"))
        self.train = cache(self._train)
        self._evaluate = cache(self._evaluated)
        self._splits: dict[str, SplitRef] = {}

    def gate(self, challenger: Candidate, champion: Candidate) -> GateVerdict:
        """Judge a challenger against the champion, on rows that neither learned from."""
        judged = self._evaluate(champion.model.model_uri, challenger.month)
        return judge_challenger(challenger.evaluation, judged, RULE)

    def _train(self, month: str) -> Candidate:
        """Train a model as ``month`` ends, and judge it on the newest fifth of its window."""
        self._splits[month] = split = split_dataset(
            training_set(self.workspace, month),
            strategy="time",
            column=TIME,
            test_size=0.2,
            seed=0,
            workspace=self.workspace,
        )
        spec = TrainingSpec(
            dataset=split.train,
            estimator=ESTIMATOR,
            features=FEATURES,
            target=TARGET,
            params=PARAMETERS,
        )
        with self._run(f"train {month}") as run:
            model = train_model(spec, run=run)
        return Candidate(
            month=month,
            model=model,
            evaluation=self._evaluate(model.model_uri, month),
            profile_uri=profile_dataset(split.train, FEATURES, self.workspace),
        )

    def _evaluated(self, model_uri: str, month: str) -> EvaluationReport:
        spec = EvaluationSpec(dataset=self._splits[month].test, target=TARGET, slices=_SLICES)
        with self._run(f"evaluate {model_uri} {month}") as run:
            return evaluate_model(model_uri, spec, workspace=self.workspace, run=run)

    def _run(self, task: str) -> AbstractContextManager[TaskRun]:
        return task_run(self._client, self._experiment, {}, {TASK_ID: task}, task)


@contextmanager
def tracking_in(folder: str) -> Iterator[str]:
    """Keep MLflow's runs and models in ``folder`` while the block runs; give the store's URI."""
    before, uri = mlflow.get_tracking_uri(), f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    try:
        yield uri
    finally:
        mlflow.set_tracking_uri(before)
