"""The kinds of rollouts, and what each brings to the driver.

The driver (``drive.py``) observes an endpoint, keeps the rollout's document and writes traffic.
It knows nothing of weights, tests or arms: a plan's ``kind`` selects what decides. Another kind
plugs in with

1. a plan, a subclass of :class:`DrivenPlan` with a ``kind`` of its own;
2. a state, a subclass of :class:`DrivenState`, which says what it wants of the endpoint;
3. an object with the members of :class:`Kind`, whose ``decide`` is pure;
4. a line in ``_KINDS``: the name, and where that object lies. It is imported when it is needed,
   so the module that holds it may import this package.

Operators wait with ``operators/rollout/base.py::RolloutOperator`` and the one ``RolloutTrigger``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from typing import Any, Protocol, Self, cast

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import Record

ENDED: frozenset[str] = frozenset({"PAUSED", "SUCCEEDED", "ROLLED_BACK", "ROLLBACK_FAILED"})
"""States that only a person or a new rollout moves on from."""
MAX_HISTORY = 200
_KINDS = {
    "canary": "airflow_mlops_provider.steps.rollout.lifecycle:RELEASE",
    "shadow": "airflow_mlops_provider.steps.rollout.lifecycle:RELEASE",
    "blue_green": "airflow_mlops_provider.steps.rollout.lifecycle:RELEASE",
    "ab_test": "airflow_mlops_provider.steps.experiment.ab_test:AB_TEST",
    "bandit": "airflow_mlops_provider.steps.experiment.bandit_rollout:BANDIT",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivenPlan(Record):
    """What the driver has to know of any plan. All durations are in seconds."""

    kind: str
    candidate: str
    """Name of the deployment that is tried."""
    interval_seconds: float = 15
    """Time between two looks."""
    outage_seconds: float = 600
    """How long the host or its counters may stay away."""
    ready_timeout_seconds: float = 180
    """How long loading a model may take."""
    rollback_timeout_seconds: float = 300
    """How long to try to set the traffic back."""
    lease_seconds: float | None = 120
    """The target rolls back by itself when nobody drove for so long; None asks for no lease."""
    options: dict[str, Any] | None = None
    """``DeploymentOptions`` of the deployments that the rollout creates."""

    @property
    def identity(self) -> str:
        """What a document has to agree in to be of this plan."""
        return f"{self.kind} {self.candidate}"

    @property
    def pair_tolerance(self) -> float | None:
        """How far apart two scores may be and still agree; None when pairs are not looked at."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivenState(Record):
    """One moment of a rollout, kept on the target as JSON between two ticks.

    The driver itself acts on ``PENDING`` (it creates ``deployments``), ``ROLLING_BACK``,
    ``AWAIT_APPROVAL`` (which :func:`drive.approve` ends by setting ``approved_by``) and on those
    of :data:`ENDED`; all other states are a kind's own.
    """

    kind: str
    state: str = "PENDING"
    champion: str
    """The deployment that all traffic goes back to."""
    candidate: str
    since: float
    """When this state or step began, in seconds since the epoch."""
    outage_since: float | None = None
    """Since when counters have been missing."""
    reason: str = ""
    history: tuple[dict[str, Any], ...] = field(default=())
    """At most 200 moments: ``t``, ``state``, ``weight`` and the figures of then."""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read what the target kept, leaving out what the target itself added."""
        known = {item.name for item in fields(cls)}
        return cls.from_xcom({key: value for key, value in document.items() if key in known})

    @property
    def identity(self) -> str:
        """See :attr:`DrivenPlan.identity`."""
        return f"{self.kind} {self.candidate}"

    @property
    def ended(self) -> bool:
        """Whether the driver has nothing left to do."""
        return self.state in ENDED

    @property
    def for_worker(self) -> bool:
        """Whether a worker has to do something before the driver can go on, such as read data."""
        return False

    @property
    def deployments(self) -> dict[str, str]:
        """Deployments that have to exist, with the model each serves."""
        raise NotImplementedError

    @property
    def superfluous(self) -> frozenset[str]:
        """Deployments that have to go."""
        return frozenset()

    @property
    def compares_pairs(self) -> bool:
        """Whether a look at pairs of answers would be of use now."""
        return False

    @property
    def traffic(self) -> dict[str, int]:
        """The traffic that this state wants; deployments without any are left out."""
        raise NotImplementedError

    @property
    def moves_traffic(self) -> bool:
        """Whether traffic is this rollout's business; else it writes mirrors alone."""
        return True

    @property
    def mirror_traffic(self) -> dict[str, int] | None:
        """The mirrored traffic that this state wants; None leaves it as it is."""
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """What else goes with each write of traffic: ``sticky``, ``shield``."""
        return {}

    @property
    def fallback(self) -> dict[str, int] | None:
        """The traffic to go back to, also without a driver; None leaves it as it is."""
        return {self.champion: 100} if self.moves_traffic else None

    def settled(self) -> Self:
        """Return the state once its traffic is in force, after which any other is somebody's."""
        return self

    def figures(self) -> dict[str, Any]:
        """Return a few JSON numbers that say where the evidence stands."""
        raise NotImplementedError

    def describe(self) -> str:
        """Say in a line where the rollout stands."""
        raise NotImplementedError

    def verdict(self, endpoint: str) -> Record:
        """Return the record of a rollout that ended.

        Raises:
            RecordError: it has not ended.
        """
        raise NotImplementedError

    def noted(self, now: float) -> Self:
        """Add this moment to the history; a full one is thinned to every second entry first."""
        kept = self.history[-2::-2][::-1] if len(self.history) >= MAX_HISTORY else self.history
        weight = self.traffic.get(self.candidate, 0)
        moment = {"t": round(now, 3), "state": self.state, "weight": weight, **self.figures()}
        return replace(self, history=(*kept, moment))


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a tick saw of an endpoint."""

    endpoint: str = ""
    traffic: Mapping[str, int]
    deployments: Mapping[str, str]
    mirror_traffic: Mapping[str, int] = field(default_factory=dict)
    sticky: bool = False
    counters: Mapping[str, Mapping[str, Any]] | None = None
    """Cumulative counters by deployment; None when they could not be read."""
    pairs: Mapping[str, Mapping[str, Any]] | None = None
    """What :meth:`ServingClient.pairs` gives; None when it was not asked for or not to be had."""


class Kind(Protocol):
    """What a kind of rollout brings. Plans and states are those of the kind itself."""

    state: type[DrivenState]

    def plan(self, payload: Mapping[str, Any]) -> DrivenPlan:
        """Rebuild a plan from its JSON.

        Raises:
            RecordError: it is none of this kind.
        """

    def needs(self, plan: Any) -> frozenset[str]:
        """Return the capabilities that the target must have."""

    def fresh(self, plan: Any, observation: Observation, now: float) -> DrivenState:
        """Return the first state; one that has ended means that there is nothing to do.

        Raises:
            ParameterError: the endpoint is not in a state to begin with, or its counters lack
                what the plan judges by.
        """

    def resumed(self, plan: Any, state: Any, observation: Observation, now: float) -> DrivenState:
        """Return how a paused rollout goes on from the traffic that is in force.

        Raises:
            ParameterError: it cannot go on from there.
        """

    def decide(self, plan: Any, state: Any, observation: Observation, now: float) -> DrivenState:
        """Return the state that follows from what was seen; pure, and total over all states."""

    def roll_back(self, state: Any, now: float, reason: str) -> DrivenState:
        """Return the state ``ROLLING_BACK``, which wants :attr:`DrivenState.fallback`."""


def kind_of(name: object) -> Kind:
    """Return the kind of that name.

    Raises:
        ParameterError: there is none.
    """
    if name not in _KINDS:
        raise ParameterError.of("kind", "a rollout", f"one of {', '.join(_KINDS)}", name)
    module, _, attribute = _KINDS[str(name)].partition(":")
    return cast("Kind", getattr(import_module(module), attribute))


def read_plan(payload: Mapping[str, Any]) -> DrivenPlan:
    """Rebuild the plan of any kind from its JSON."""
    return kind_of(payload.get("kind", "canary")).plan(payload)


def read_state(document: Mapping[str, Any]) -> DrivenState:
    """Rebuild the state of any kind from the document that the target kept."""
    return kind_of(document.get("kind", "canary")).state.from_document(document)
