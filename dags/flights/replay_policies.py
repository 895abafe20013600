"""A champion over the year, under several policies of retraining."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from flights.replay_data import end_of

if TYPE_CHECKING:
    from airflow_mlops_provider.records import GateVerdict, MonitoringReport
    from flights.replay_live import Live
    from flights.replay_models import Candidate

COOL_DOWN = 1
"""Days that triggered retraining rests after a training; with a look a month it never has to."""


@dataclass(frozen=True)
class Policy:
    """When to train anew, asked as each month ends."""

    name: str
    wants: Callable[[MonitoringReport], bool]
    cool_down: int = 0
    """Days between two trainings."""


def _raised(signals: Set[str], report: MonitoringReport) -> bool:
    return bool(signals & {*report.signals})


POLICIES = (
    Policy("no retraining", lambda report: False),
    Policy("every month", lambda report: True),
    Policy("on drift or performance", partial(_raised, {"drift", "performance"}), COOL_DOWN),
    Policy("on performance", partial(_raised, {"performance"}), COOL_DOWN),
)


@dataclass(frozen=True)
class Attempt:
    """A challenger that was trained as a month ended, and what the gate said."""

    challenger: Candidate
    verdict: GateVerdict


@dataclass(frozen=True)
class MonthServed:
    """One month of a policy."""

    month: str
    champion: Candidate
    live: Live
    attempt: Attempt | None


class World(Protocol):
    """What a policy acts on."""

    def live(self, champion: Candidate, month: str) -> Live:
        """Serve a month, and look at it."""

    def train(self, month: str) -> Candidate:
        """Train a challenger as a month ends."""

    def gate(self, challenger: Candidate, champion: Candidate) -> GateVerdict:
        """Judge it."""


def follow(
    policy: Policy, world: World, champion: Candidate, months: Sequence[str]
) -> Iterator[MonthServed]:
    """Serve ``months`` one after the other; whoever passes the gate serves from the next on.

    Nothing is trained as the last month ends: it would serve nobody.
    """
    trained = end_of(champion.month)
    for month in months:
        live, attempt, serving = world.live(champion, month), None, champion
        rested = (end_of(month) - trained).days >= policy.cool_down
        if month != months[-1] and rested and policy.wants(live.report):
            trained = end_of(month)
            challenger = world.train(month)
            attempt = Attempt(challenger, world.gate(challenger, champion))
            if attempt.verdict.outcome == "promote":
                champion = challenger
        yield MonthServed(month, serving, live, attempt)
