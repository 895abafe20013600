"""What a bandit optimises, and when it ends: its knobs, their defaults and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.experiment.limits import Limits, check_limits
from airflow_mlops_provider.steps.rollout.kinds import DrivenPlan

_CALLER = "BanditRolloutOperator"


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditPlan(DrivenPlan):
    """The arms of a bandit and how it plays them. Build one with :meth:`of`."""

    kind: Literal["bandit"] = "bandit"
    arms: tuple[str, ...]
    """Names of deployments that exist; one of them serves all traffic when the bandit begins."""
    reward: Literal["bernoulli", "normal"] = "bernoulli"
    direction: Literal["increase", "decrease"] = "increase"
    missing: Literal["ignore", "zero"] = "ignore"
    min_weight: int = 5
    """Percent that each arm keeps, so that it can still surprise."""
    stop_at: float = 0.95
    """Ends when an arm is the best with this posterior probability, ..."""
    consecutive: int = 3
    """... at so many looks in a row."""
    min_units: int = 50
    """Rewards (discounted ones) that each arm needs before weights move."""
    half_life_seconds: float | None = None
    """Age at which a reward counts half; None never forgets."""
    max_error_rate: float = 0.2
    """Guardrail on the error rate of each arm, from 50 requests on."""
    label_delay_seconds: float = 0
    look_seconds: float = 3600
    max_seconds: float = 7 * 86400
    lease_seconds: float | None = 900
    seed: str = ""
    """The draws of a look follow from this and the number of the look."""

    @property
    def identity(self) -> str:
        """A bandit is of one set of arms."""
        return f"{self.kind} {' '.join(self.arms)}"

    @classmethod
    def of(cls, **knobs: Any) -> BanditPlan:
        """Build a plan from values that may still be strings of a template.

        Raises:
            ParameterError: a knob lies outside its limits; the message names it.
            RecordError: a knob is not even of its type.
        """
        arms = knobs.get("arms")
        if isinstance(arms, str):
            arms = [each.strip(" '\"") for each in arms.strip("[]() ").split(",")]
        arms = tuple(arms or ())
        if len(set(arms)) != len(arms) or len(arms) < 2:
            raise ParameterError.of("deployments", _CALLER, "two or more different names", arms)
        given = {name: value for name, value in knobs.items() if value != ""}
        plan = cls.from_xcom({**given, "arms": arms, "candidate": arms[-1]})
        plan._check()
        return plan

    def _check(self) -> None:
        check_limits(self, _LIMITS, _CALLER)
        most = 100 // len(self.arms)
        if not 1 <= self.min_weight <= most:
            constraint = f"between 1 and {most} for {len(self.arms)} deployments"
            raise ParameterError.of("min_weight", _CALLER, constraint, self.min_weight)
        if self.lease_seconds is not None and self.interval_seconds > self.lease_seconds / 3:
            constraint = f"at most a third of lease_seconds ({self.lease_seconds:g})"
            raise ParameterError.of("interval_seconds", _CALLER, constraint, self.interval_seconds)


_LIMITS: Limits = (
    (("stop_at",), (0.5, 0.9999), "between 0.5 and 0.9999"),
    (("max_error_rate",), (0, 1), "between 0 and 1"),
    (("consecutive", "half_life_seconds", "ready_timeout_seconds"), (1, inf), "1 or more"),
    (("min_units",), (2, inf), "2 or more"),
    (("interval_seconds",), (0.05, 3600), "between 0.05 and 3600"),
    (("look_seconds", "max_seconds", "lease_seconds"), (0.05, inf), "0.05 or more"),
    (
        ("label_delay_seconds", "outage_seconds", "rollback_timeout_seconds"),
        (0, inf),
        "0 or more",
    ),
)
