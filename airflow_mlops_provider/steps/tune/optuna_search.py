"""Search with Optuna: workers take trials from the study until it holds enough of them."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import optuna

from airflow_mlops_provider.steps.tune.backends import each_done
from airflow_mlops_provider.steps.tune.space import suggest
from airflow_mlops_provider.steps.tune.study import (
    ERROR,
    GRACE_SECONDS,
    HEARTBEAT_SECONDS,
    SURPLUS,
    StudyPlace,
    reclaim,
    taken,
    trial_of,
)
from airflow_mlops_provider.steps.tune.trials import (
    Trial,
    reason,
)

if TYPE_CHECKING:
    from airflow_mlops_provider.records import SearchSpec
    from airflow_mlops_provider.steps.tune.problem import Problem

_POLL_SECONDS = 0.5


class _Surplus(Exception):  # noqa: N818  # no error: the study had enough trials already
    pass


def fill(
    place: StudyPlace, problem: Problem, search: SearchSpec, worker: int | None
) -> Iterator[Trial]:
    """Run the trials that the study lacks, and yield each that we ran.

    ``worker`` is the number of this task among those that share the study; without one, this is
    the task that sees to it that all trials end.
    """
    deadline = time.monotonic() + (search.timeout_seconds or float("inf"))
    waiting_since = None
    while time.monotonic() < deadline:
        study = place.open()
        others = reclaim(place, study)
        trials = study.get_trials(deepcopy=False)
        missing = search.n_trials - len(taken(trials))
        if missing > 0:
            waiting_since = None
            yield from _run(missing, place, problem, search, worker or 0, deadline)
        elif not others or worker is not None:
            return
        else:
            waiting_since = waiting_since or time.monotonic()
            if place.folder is None and time.monotonic() - waiting_since > _patience():
                return  # a worker that died before its first heartbeat looks alive for ever
            time.sleep(_POLL_SECONDS)


def _patience() -> float:
    return 2.0 * (GRACE_SECONDS + HEARTBEAT_SECONDS)


def _run(
    missing: int,
    place: StudyPlace,
    problem: Problem,
    search: SearchSpec,
    worker: int,
    deadline: float,
) -> Iterator[Trial]:
    def jobs() -> Iterator[Callable[[], Trial | None]]:
        for lane in range(missing):
            if time.monotonic() >= deadline:
                return
            yield functools.partial(run_trial, place, problem, search, (worker, lane))

    yield from (trial for trial in each_done(jobs(), search.n_workers) if trial is not None)


def run_trial(
    place: StudyPlace, problem: Problem, search: SearchSpec, lane: tuple[int, int]
) -> Trial | None:
    """Take one trial of the study and run it; None if the study has enough."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study = place.open()
    ran: list[int] = []
    with ExitStack() as claim, ExitStack() as held:
        claim.enter_context(place.claiming())
        rank = len(taken(study.get_trials(deepcopy=False)))
        if rank >= search.n_trials:
            return None
        study.sampler = optuna.samplers.TPESampler(seed=_seed(place, search.seed, rank, lane))
        study.pruner = _pruner(search)

        def objective(trial: optuna.Trial) -> float:
            ran.append(trial.number)
            held.enter_context(place.holding(trial.number))
            claim.close()
            _check_rank(study, trial, search.n_trials)
            return _score(trial, problem, search)

        study.optimize(objective, n_trials=1, catch=(Exception,))
    found = study.get_trials(deepcopy=False)[ran[0]]
    return None if SURPLUS in found.user_attrs else trial_of(found)


def _seed(place: StudyPlace, seed: int | None, rank: int, lane: tuple[int, int]) -> int | None:
    """Return a seed of a trial's own, so that a resumed search draws what it would have drawn.

    In a database two workers may take the same rank at once: there the lane tells them apart.
    """
    if seed is None:
        return None
    entropy = (seed, rank) if place.folder is not None else (seed, rank, *lane)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _pruner(search: SearchSpec) -> optuna.pruners.BasePruner:
    if search.pruner == "median":
        return optuna.pruners.MedianPruner()
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(max_resource=search.n_splits)
    return optuna.pruners.NopPruner()


def _check_rank(study: optuna.Study, trial: optuna.Trial, n_trials: int) -> None:
    """Give up a trial that another worker of a database made superfluous meanwhile."""
    before = [
        each for each in taken(study.get_trials(deepcopy=False)) if each.number < trial.number
    ]
    if len(before) >= n_trials:
        trial.set_user_attr(SURPLUS, True)
        raise _Surplus


def _score(trial: optuna.Trial, problem: Problem, search: SearchSpec) -> float:
    scores: list[float] = []
    try:
        for fold, score in enumerate(problem.scores(suggest(trial, search.space))):
            scores.append(score)
            trial.report(score, fold)
            if fold + 1 < len(problem.folds) and trial.should_prune():
                raise optuna.TrialPruned
    except optuna.TrialPruned:
        raise
    except Exception as error:
        trial.set_user_attr(ERROR, reason(error))
        raise
    return float(np.mean(scores))


def importances(study: optuna.Study) -> dict[str, float] | None:
    """Return how much of the scores' variance each parameter explains, where that can be told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what None says
            return optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError):
        return None
