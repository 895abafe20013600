"""What an A/B test asks: its knobs, their defaults and their limits."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import Any, Literal

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import Record
from airflow_mlops_provider.steps.experiment.limits import Limits, check_limits
from airflow_mlops_provider.steps.experiment.units import (  # noqa: TC001 - field types
    Metric,
    Missing,
    Unit,
)
from airflow_mlops_provider.steps.rollout.kinds import DrivenPlan
from airflow_mlops_provider.steps.rollout.plan import CanaryPlan

_NEVER = 1e12
"""Seconds after which the guardrails would move the traffic by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Record):
    """What is compared, how sure the answer has to be, and when the test gives up.

    All durations are in seconds. It is checked as a part of :class:`ABTestPlan`.
    """

    split: int = 50
    """Percent of the units that get the candidate."""
    unit: Unit = "entity"
    metric: Metric = "mean"
    direction: Literal["increase", "decrease"] = "increase"
    missing: Missing = "ignore"
    margin: float = 0.0
    """How much better the candidate's mean has to be; below 0, how much worse it may be."""
    min_effect: float | None = None
    """The smallest difference of means beyond ``margin`` that is worth finding."""
    alpha: float = 0.05
    """Chance that arms which do not differ ever end with a winner or a loser."""
    power: float = 0.8
    """Chance that a difference of ``min_effect`` is found before the test gives up."""
    mismatch_alpha: float = 0.01
    """Chance that a sound assignment is ever called a mismatch."""
    min_units: int = 100
    """Units with an outcome that each arm needs before anything is concluded."""
    max_units: int | None = None
    """Units with an outcome, both arms together, at which the test gives up; by default those
    that ``power`` needs."""
    max_seconds: float = 14 * 86400
    label_delay_seconds: float = 0
    look_seconds: float = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class ABTestPlan(DrivenPlan):
    """A question, and the guardrails that watch while it is being answered.

    Build one with :meth:`of`, which checks every knob.
    """

    kind: Literal["ab_test"] = "ab_test"
    model_uri: str
    question: Question
    on_win: Literal["promote", "report"] = "promote"
    guard_alpha: float = 0.01
    """Chance that errors and latency ever accuse a sound candidate."""
    error_margin: float = 0.2
    latency_margin: float = 0.2
    latency_slack_ms: float = 10
    max_error_rate: float = 0.2
    max_consecutive_errors: int = 10
    max_schema_violations: int = 0
    bake_seconds: float = 600
    lease_seconds: float | None = 900
    """Longer than a canary's, because a look waits for a worker slot and reads data."""

    @property
    def identity(self) -> str:
        """A test is of one model version; the same name may come to mean another."""
        return f"{self.kind} {self.candidate} {self.model_uri}"

    @property
    def guard(self) -> CanaryPlan:
        """The canary that watches errors and latency, and never goes on by itself."""
        return CanaryPlan(
            candidate=self.candidate,
            model_uri=self.model_uri,
            steps=(self.question.split, 100),
            step_min_seconds=_NEVER,
            step_max_seconds=2 * _NEVER,
            alpha=self.guard_alpha,
            margin=self.error_margin,
            latency_margin=self.latency_margin,
            latency_slack_ms=self.latency_slack_ms,
            max_error_rate=self.max_error_rate,
            max_consecutive_errors=self.max_consecutive_errors,
            max_schema_violations=self.max_schema_violations,
            bake_seconds=self.bake_seconds,
            outage_seconds=self.outage_seconds,
            ready_timeout_seconds=self.ready_timeout_seconds,
            rollback_timeout_seconds=self.rollback_timeout_seconds,
        )

    @classmethod
    def of(cls, **knobs: Any) -> ABTestPlan:
        """Build a plan from flat values that may still be strings of a template.

        Raises:
            ParameterError: a knob lies outside its limits; the message names it.
            RecordError: a knob is not even of its type.
        """
        known = {each.name for each in fields(Question)}
        asked = {name: value for name, value in knobs.items() if name in known and value != ""}
        rest = {name: value for name, value in knobs.items() if name not in known}
        plan = cls.from_xcom({**rest, "question": Question.from_xcom(asked)})
        plan._check()
        return plan

    def _check(self) -> None:
        asked = self.question
        check_limits(asked, _QUESTION_LIMITS, _CALLER)
        check_limits(self, _LIMITS, _CALLER)
        if asked.min_effect is None and asked.max_units is None:
            raise _wrong("min_effect", "given, or max_units instead of it", None)
        if asked.metric == "rate" and asked.margin:
            raise _wrong("margin", "0 with metric='rate' (metric='mean' takes one)", asked.margin)
        if self.lease_seconds is not None and self.interval_seconds > self.lease_seconds / 3:
            constraint = f"at most a third of lease_seconds ({self.lease_seconds:g})"
            raise _wrong("interval_seconds", constraint, self.interval_seconds)


_CALLER = "ABTestOperator"
_QUESTION_LIMITS: Limits = (
    (("split",), (1, 99), "a percent between 1 and 99"),
    (("alpha", "mismatch_alpha"), (1e-9, 0.5), "between 1e-9 and 0.5"),
    (("power",), (0.5, 0.999), "between 0.5 and 0.999"),
    (("min_effect",), (1e-300, inf), "above 0"),
    (("min_units",), (30, inf), "30 or more"),
    (("max_units",), (60, inf), "60 or more"),
    (("look_seconds", "max_seconds"), (0.05, inf), "0.05 or more"),
    (("label_delay_seconds",), (0, inf), "0 or more"),
)
_LIMITS: Limits = (
    (("guard_alpha",), (1e-9, 0.5), "between 1e-9 and 0.5"),
    (("max_error_rate",), (0, 1), "between 0 and 1"),
    (("error_margin", "latency_margin"), (0, 10), "between 0 and 10"),
    (("interval_seconds",), (0.05, 3600), "between 0.05 and 3600"),
    (("lease_seconds",), (0.1, inf), "0.1 or more"),
    (("max_consecutive_errors", "ready_timeout_seconds"), (1, inf), "1 or more"),
    (
        (
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
    return ParameterError.of(name, _CALLER, constraint, value)
