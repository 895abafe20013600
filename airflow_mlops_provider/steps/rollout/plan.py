"""What a canary is allowed to do: the knobs, their defaults and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Any, Literal

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.rollout.kinds import DrivenPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPlan(DrivenPlan):
    """Which deployment is rolled out, and on what evidence it may go on.

    All durations are in seconds. Build one with :meth:`of`, which checks every knob.
    """

    kind: Literal["canary"] = "canary"
    model_uri: str
    steps: tuple[int, ...] = (5, 25, 50, 100)
    """The candidate's percent of traffic, ascending, from below 100 to 100."""
    step_min_seconds: float = 300
    step_max_seconds: float = 3600
    """When a step is still undecided after this long, it is inconclusive."""
    min_requests: int = 200
    """Requests that each side has to answer in each step."""
    alpha: float = 0.05
    """Chance of ever accusing a sound candidate, shared evenly by error rate and latency."""
    margin: float = 0.2
    """How much higher, relatively, the candidate's error rate may be."""
    latency_margin: float = 0.2
    """How much higher, relatively, the candidate's typical (geometric mean) latency may be."""
    latency_slack_ms: float = 10
    """A candidate that is slower by less is never blamed: a process with a small share of the
    traffic has colder caches and connections, whatever its model."""
    max_error_rate: float = 0.2
    """Guardrail on the candidate's error rate in a step, from 50 requests on."""
    max_consecutive_errors: int = 10
    """Guardrail on errors in looks in which the candidate answered nothing else."""
    max_schema_violations: int = 0
    """Guardrail on answers of the candidate in a step that do not fit its output signature."""
    on_inconclusive: Literal["pause", "rollback"] = "pause"
    bake_seconds: float = 600

    @property
    def identity(self) -> str:
        """A rollout is of one model version; the same name may come to mean another."""
        return f"{self.kind} {self.candidate} {self.model_uri}"

    @classmethod
    def of(cls, **knobs: Any) -> CanaryPlan:
        """Build a plan from values that may still be strings of a template.

        Raises:
            ParameterError: a knob lies outside its limits; the message names it.
            RecordError: a knob is not even of its type.
        """
        steps = knobs.get("steps")
        if isinstance(steps, str):
            knobs["steps"] = steps.strip("[]() ").split(",")
        plan = cls.from_xcom(knobs)
        plan._check()
        return plan

    def _check(self) -> None:
        ascending = all(a < b for a, b in pairwise((0, *self.steps)))
        if not ascending or len(self.steps) < 2 or self.steps[-1] != 100:
            raise _wrong("steps", "ascending percents from below 100 to 100", self.steps)
        for names, (low, high), constraint in _LIMITS:
            for name in names:
                value = getattr(self, name)
                if value is not None and not low <= value <= high:
                    raise _wrong(name, constraint, value)
        if self.step_max_seconds <= self.step_min_seconds:
            constraint = f"more than step_min_seconds ({self.step_min_seconds:g})"
            raise _wrong("step_max_seconds", constraint, self.step_max_seconds)
        if self.lease_seconds is not None and self.interval_seconds > self.lease_seconds / 3:
            constraint = f"at most a third of lease_seconds ({self.lease_seconds:g})"
            raise _wrong("interval_seconds", constraint, self.interval_seconds)

    def next_weight(self, weight: int) -> int:
        """Return the first step above ``weight`` percent."""
        return next(step for step in self.steps if step > weight)


_LIMITS: tuple[tuple[tuple[str, ...], tuple[float, float], str], ...] = (
    (("alpha",), (1e-9, 0.5), "between 1e-9 and 0.5"),
    (("max_error_rate",), (0, 1), "between 0 and 1"),
    (("margin", "latency_margin"), (0, 10), "between 0 and 10"),
    (("interval_seconds",), (0.05, 3600), "between 0.05 and 3600"),
    (("lease_seconds",), (0.1, inf), "0.1 or more"),
    (("min_requests", "max_consecutive_errors", "ready_timeout_seconds"), (1, inf), "1 or more"),
    (
        (
            "step_min_seconds",
            "latency_slack_ms",
            "max_schema_violations",
            "outage_seconds",
            "bake_seconds",
            "rollback_timeout_seconds",
        ),
        (0, inf),
        "0 or more",
    ),
)


def _wrong(name: str, constraint: str, value: object) -> ParameterError:
    return ParameterError.of(name, "CanaryRolloutOperator", constraint, value)
