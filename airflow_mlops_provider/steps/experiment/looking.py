"""The part of an experiment that a worker does: read the data of a look and act on it.

The document on the serving target is read anew before it is written, so a look that took long
never undoes what happened meanwhile, such as a roll-back by the lease.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from airflow_mlops_provider.exceptions import MlopsError, PermanentError
from airflow_mlops_provider.steps.experiment.exposures import read_exposures
from airflow_mlops_provider.steps.rollout.kinds import read_state
from airflow_mlops_provider.steps.rollout.target import TrafficTarget

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.kinds import DrivenPlan, DrivenState

SETTLED_SECONDS = 120.0
"""Age from which a log that cannot be asked to close its segments is taken to be complete."""

Outcomes = Callable[[float, float], pd.DataFrame]
"""Reads the outcomes between two moments, in seconds since the epoch."""


class LoggingTarget(TrafficTarget, Protocol):
    """A serving target whose prediction log can be closed to be read."""

    def rotate_logs(self, endpoint: str) -> None:
        """Close the open segments of the endpoint's prediction log."""


class Experiment(Protocol):
    """What a kind of experiment brings to a look."""

    def judged(
        self,
        plan: Any,
        state: Any,
        exposures: pd.DataFrame,
        outcomes: pd.DataFrame,
        now: float,
    ) -> DrivenState:
        """Return the state that follows from the data of a look."""

    def missed(self, plan: Any, state: Any, why: str, now: float) -> DrivenState:
        """Return the state that follows from a look without data."""

    def roll_back(self, state: Any, now: float, reason: str) -> DrivenState:
        """Return the state that wants the fallback traffic."""


def take_look(
    kind: Experiment,
    target: LoggingTarget,
    endpoint: str,
    plan: DrivenPlan,
    state: Any,
    *,
    log: str,
    outcomes: Outcomes,
    rotate: bool,
    now: float,
) -> DrivenState:
    """Read what a look needs, judge it, and keep the state that follows.

    Data that cannot be had now cost a look; outcomes that cannot be used end the experiment.

    Args:
        kind: What judges.
        target: The serving target.
        endpoint: Name of the endpoint.
        plan: Plan of the experiment.
        state: Its state, with a look due.
        log: Where the exposures are, as :func:`read_exposures` takes it.
        outcomes: Reads the outcomes.
        rotate: Ask the target to close its segments first. Without it the last
            ``SETTLED_SECONDS`` are left out, in which one deployment's may be closed and another
            one's not.
        now: Seconds since the epoch.

    Raises:
        ServiceError: the serving target does not answer.
    """
    end = now if rotate else now - SETTLED_SECONDS
    try:
        if rotate:
            target.rotate_logs(endpoint)
        exposures = read_exposures(log, deployments=state.arms, start=state.started, end=end)
    except (MlopsError, OSError) as error:
        followed = kind.missed(plan, state, str(error), now)
    else:
        followed = _judged(kind, plan, state, exposures, outcomes, end)
    return _kept(target, endpoint, plan, state, followed, now)


def _judged(
    kind: Experiment,
    plan: DrivenPlan,
    state: Any,
    exposures: pd.DataFrame,
    outcomes: Outcomes,
    end: float,
) -> DrivenState:
    try:
        return kind.judged(plan, state, exposures, outcomes(state.started, end), end)
    except PermanentError as error:
        return kind.roll_back(state, end, str(error))
    except Exception as error:  # noqa: BLE001 - whatever a source raises, the next look asks again
        return kind.missed(plan, state, f"{type(error).__name__}: {error}", end)


def _kept(
    target: TrafficTarget,
    endpoint: str,
    plan: DrivenPlan,
    before: DrivenState,
    after: DrivenState,
    now: float,
) -> DrivenState:
    document = target.get_rollout(endpoint)
    current = read_state(document) if document else None
    if current is None or current.identity != before.identity or not current.for_worker:
        return current or before
    after = after.noted(now)
    target.put_rollout(
        endpoint,
        after.to_xcom(),
        lease_seconds=plan.lease_seconds,
        rollback_traffic=after.fallback,
    )
    return after
