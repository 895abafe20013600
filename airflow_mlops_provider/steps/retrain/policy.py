"""Which events are worth a training: debounce, cool-down and budget.

The decision is a pure function of events, past trainings and the time, so that a year can be
replayed with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops_provider.exceptions import ParameterError

if TYPE_CHECKING:
    from airflow_mlops_provider.records import RetrainingDecision, RetrainingEvent
    from airflow_mlops_provider.records.retraining import EventKind, OutcomeName

KINDS: tuple[EventKind, ...] = ("demand", "performance", "drift", "new_data", "schedule")
"""The gravest first: of several events at once, the first that passes is what the run is for."""
RATED: tuple[EventKind, ...] = ("performance", "drift", "new_data")
"""What a single number for the cool-down is about; a schedule has a rate of its own."""


@dataclass(frozen=True)
class Policy:
    """What keeps noise from training every hour. A person who asks always passes."""

    debounce_seconds: float = 300
    """Events less than this apart are one."""
    cooldown_seconds: Mapping[str, float] = field(default_factory=dict)
    """How long after a training on events of a kind no other event of that kind trains."""
    budget: int | None = None
    """How many trainings, of whatever kind and outcome, a period may have; None for any number."""
    budget_seconds: float = 30 * 86_400
    """The period: the last so many seconds."""

    @classmethod
    def of(
        cls,
        debounce_seconds: float,
        cooldown_seconds: float | Mapping[str, float],
        budget: int | None,
        budget_seconds: float,
    ) -> Policy:
        """Build a policy.

        Args:
            debounce_seconds: At least 0.
            cooldown_seconds: At least 0: by kind, or one number for performance, drift and new
                data.
            budget: At least 1, or None.
            budget_seconds: More than 0.

        Raises:
            ParameterError: one of them is out of range, or a kind is unknown.
        """
        if not isinstance(cooldown_seconds, Mapping):
            cooldown_seconds = dict.fromkeys(RATED, float(cooldown_seconds))
        by_kind = {str(kind): float(seconds) for kind, seconds in cooldown_seconds.items()}
        allowed = set(KINDS) - {"demand"}
        if set(by_kind) - allowed or any(seconds < 0 for seconds in by_kind.values()):
            constraint = f"at least 0, for kinds of {sorted(allowed)}"
            raise ParameterError.of("cooldown_seconds", _CALLER, constraint, cooldown_seconds)
        if debounce_seconds < 0:
            raise ParameterError.of("debounce_seconds", _CALLER, "at least 0", debounce_seconds)
        if budget is not None and budget < 1:
            raise ParameterError.of("budget", _CALLER, "at least 1, or None", budget)
        if budget_seconds <= 0:
            raise ParameterError.of("budget_seconds", _CALLER, "more than 0", budget_seconds)
        return cls(debounce_seconds, by_kind, budget, budget_seconds)


@dataclass(frozen=True)
class Training:
    """A training that was decided on, and what came of it; None while it runs."""

    decision: RetrainingDecision
    outcome: OutcomeName | None = None

    @property
    def decided_at(self) -> datetime:
        """When it was decided on."""
        return datetime.fromisoformat(self.decision.decided_at)

    @property
    def kinds(self) -> set[EventKind]:
        """Of all events that started it."""
        return {event.kind for event in [self.decision.event, *self.decision.events]}


@dataclass(frozen=True)
class Weighed:
    """What the policy says of a run's events."""

    decision: Literal["train", "skip"]
    event: RetrainingEvent
    reason: str
    counted: dict[str, Any]


def weigh(
    events: Sequence[RetrainingEvent],
    trainings: Sequence[Training],
    policy: Policy,
    now: datetime,
) -> Weighed:
    """Decide whether a run trains.

    A failed training starts no cool-down and is one with no event, for nothing came of it; it does
    count in the budget. One that stopped before it trained counts nowhere.

    Args:
        events: What started the run, at least one.
        trainings: All that were decided on before, in any order.
        policy: How much is too much.
        now: The time.
    """
    trainings = [training for training in trainings if training.outcome != "stopped"]
    ranked = sorted(events, key=lambda event: (KINDS.index(event.kind), event.at))
    recent = _within(trainings, now, policy.budget_seconds)
    against = {event.id: _objection(event, trainings, recent, policy, now) for event in ranked}
    event = next((event for event in ranked if against[event.id] is None), ranked[0])
    objection = against[event.id]
    last = _last(trainings, event.kind)
    return Weighed(
        decision="skip" if objection else "train",
        event=event,
        reason=objection or _welcome(event),
        counted={
            "trainings": len(recent),
            "budget": policy.budget,
            "budget_seconds": policy.budget_seconds,
            "last_training": last.decision.decided_at if last else None,
            "cooldown_seconds": policy.cooldown_seconds.get(event.kind, 0.0),
            "debounce_seconds": policy.debounce_seconds,
        },
    )


def _objection(
    event: RetrainingEvent,
    trainings: Sequence[Training],
    recent: Sequence[Training],
    policy: Policy,
    now: datetime,
) -> str | None:
    """Say why an event does not train, or None if it does."""
    if event.by is not None:
        return None
    worth = [training for training in trainings if training.outcome != "failed"]
    if twin := next((each for each in worth if _is_one(event, each, policy, now)), None):
        return (
            f"debounce: it is one with the {twin.decision.event.kind} event of "
            f"{twin.decision.event.at} (run {twin.decision.run}), less than "
            f"{timedelta(seconds=policy.debounce_seconds)} apart"
        )
    wait = policy.cooldown_seconds.get(event.kind, 0.0)
    last = _last(worth, event.kind)
    if last and now - last.decided_at < timedelta(seconds=wait):
        return (
            f"cool-down: the last training on {event.kind} began {last.decision.decided_at} (run "
            f"{last.decision.run}), less than {timedelta(seconds=wait)} ago"
        )
    if policy.budget is not None and len(recent) >= policy.budget:
        return (
            f"budget: {len(recent)} trainings within {timedelta(seconds=policy.budget_seconds)}, "
            f"{policy.budget} are allowed"
        )
    return None


def _welcome(event: RetrainingEvent) -> str:
    return f"{event.by} asked for it" if event.by else f"a {event.kind} event within the limits"


def _is_one(event: RetrainingEvent, training: Training, policy: Policy, now: datetime) -> bool:
    """Tell whether an event came too close to a training's event, or before it was decided on.

    A scheduled run happens when it is decided on, for its nominal time may be years ago; two of
    them are what somebody asked for.
    """
    first = training.decision.event
    if first.kind == event.kind == "schedule":
        return False
    at = now if event.kind == "schedule" else datetime.fromisoformat(event.at)
    decided_at = training.decided_at
    began = decided_at if first.kind == "schedule" else datetime.fromisoformat(first.at)
    slack = timedelta(seconds=policy.debounce_seconds)
    return bool(slack) and min(began, decided_at) - slack < at < max(began, decided_at) + slack


def _within(trainings: Sequence[Training], now: datetime, seconds: float) -> list[Training]:
    since = now - timedelta(seconds=seconds)
    return [training for training in trainings if training.decided_at > since]


def _last(trainings: Sequence[Training], kind: EventKind) -> Training | None:
    of_kind = (training for training in trainings if kind in training.kinds)
    return max(of_kind, key=lambda training: training.decided_at, default=None)


_CALLER = "DecideRetrainingOperator"
