"""What every release of a model version may be told: by what it is judged, and how it ends."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, Self

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.rollout.kinds import DrivenPlan
from airflow_mlops_provider.steps.rollout.metrics import MetricSpec  # noqa: TC001 - a field type

TESTS = frozenset({"errors", "latency", "disagreement", "shift"})
"""What is judged in any case, beside a plan's own metrics."""
_FOR_ERRORS = 0.9
_LISTS = frozenset({"steps", "dry_run_metrics"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRules:
    """How mirrored traffic is judged."""

    percent: int
    min_pairs: int
    min_seconds: float
    max_seconds: float
    tolerance: float
    max_disagreement: float
    max_shift: float | None

    @property
    def allowed_shift(self) -> float:
        """How far the mean of the scores may move."""
        return self.tolerance if self.max_shift is None else self.max_shift


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePlan(DrivenPlan):
    """The knobs of all releases. All durations are in seconds.

    Build one with :meth:`of`, which checks every knob.
    """

    model_uri: str
    alpha: float = 0.05
    """Chance of ever accusing a sound candidate: nine tenths for errors, the rest for all else."""
    margin: float = 0.0
    """How much higher, relatively, the candidate's error rate may be."""
    latency_margin: float = 0.05
    """How much higher, relatively, the candidate's typical (geometric mean) latency may be."""
    latency_slack_ms: float = 2
    """A candidate that is slower by less is never blamed: a process with a small share of the
    traffic has colder caches and connections, whatever its model."""
    max_error_rate: float = 0.2
    """Guardrail on the candidate's error rate in a step, from 50 requests on."""
    max_consecutive_errors: int = 10
    """Guardrail on errors in looks in which the candidate answered nothing else."""
    max_schema_violations: int = 0
    """Guardrail on answers of the candidate in a step that do not fit its output signature."""
    dry_run_metrics: tuple[str, ...] = ()
    """Tests and metrics that are judged and reported but never act."""
    on_metric_outage: Literal["rollback", "pause"] = "rollback"
    """What follows when counters are missing for ``outage_seconds``."""
    tolerance: float = 0.1
    """Scores of a mirrored request that are further apart disagree; other answers must be equal."""
    max_disagreement: float = 0.1
    """The share of mirrored requests on which the two may disagree."""
    max_shift: float | None = None
    """How far the mean score may move under mirrored traffic; by default ``tolerance``."""

    @classmethod
    def of(cls, **knobs: Any) -> Self:
        """Build a plan from values that may still be strings of a template.

        Raises:
            ParameterError: a knob lies outside its limits; the message names it.
            RecordError: a knob is not even of its type.
        """
        for name in _LISTS & knobs.keys():
            if isinstance(knobs[name], str):
                knobs[name] = _items(knobs[name])
        if isinstance(knobs.get("metrics"), str):
            knobs["metrics"] = _json(knobs["metrics"])
        plan = cls.from_xcom(knobs)
        plan.check()
        return plan

    @property
    def identity(self) -> str:
        """A release is of one model version; the same name may come to mean another."""
        return f"{self.kind} {self.candidate} {self.model_uri}"

    @property
    def pair_tolerance(self) -> float | None:
        """How far apart two scores may be and still agree; None when pairs are not looked at."""
        return self.tolerance if self.shadow else None

    @property
    def weights(self) -> tuple[int, ...]:
        """The candidate's percent of traffic, step by step; the last is the promotion."""
        return ()

    @property
    def shadow(self) -> ShadowRules | None:
        """How the phase of mirrored traffic is judged; None when there is none."""
        return None

    @property
    def shields(self) -> bool:
        """Whether failures of the candidate are hidden from users."""
        return False

    @property
    def own_metrics(self) -> tuple[MetricSpec, ...]:
        """The metrics that were asked for beside errors and latency."""
        return ()

    def next_weight(self, weight: int) -> int:
        """Return the first step above ``weight`` percent."""
        return next(step for step in self.weights if step > weight)

    def alpha_of(self, test: str) -> float:
        """Return the share of ``alpha`` for a test of live traffic.

        Errors have nine tenths of it however many metrics there are: they are rare, so they need
        it most, while means are known well at any rate.
        """
        if test == "errors":
            return self.alpha * _FOR_ERRORS
        return self.alpha * (1 - _FOR_ERRORS) / (1 + len(self.own_metrics))

    def too_slow(self, slower: float, typical_ms: float) -> bool:
        """Tell whether a difference of log latency is beyond the margin and the slack."""
        if slower <= math.log1p(self.latency_margin):
            return False
        return typical_ms * math.expm1(slower) > self.latency_slack_ms

    def check(self) -> None:
        """Raise ParameterError for a knob outside its limits."""
        for names, (low, high), constraint in _LIMITS:
            for name in names:
                value = getattr(self, name, None)
                if value is not None and not low <= value <= high:
                    raise self.wrong(name, constraint, value)
        self._check_names()
        if self.lease_seconds is not None and self.interval_seconds > self.lease_seconds / 3:
            constraint = f"at most a third of lease_seconds ({self.lease_seconds:g})"
            raise self.wrong("interval_seconds", constraint, self.interval_seconds)
        rules = self.shadow
        if rules and rules.max_seconds <= rules.min_seconds:
            name = "max_seconds" if self.kind == "shadow" else "shadow_max_seconds"
            constraint = f"more than the shortest time ({rules.min_seconds:g})"
            raise self.wrong(name, constraint, rules.max_seconds)

    def _check_names(self) -> None:
        for metric in self.own_metrics:
            metric.check()
        known = TESTS | {metric.name for metric in self.own_metrics}
        if set(self.dry_run_metrics) - known:
            constraint = f"of the tests and metrics ({', '.join(sorted(known))})"
            raise self.wrong("dry_run_metrics", constraint, self.dry_run_metrics)

    def wrong(self, name: str, constraint: str, value: object) -> ParameterError:
        """Return the error that names a knob."""
        return ParameterError.of(name, _OPERATORS[self.kind], constraint, value)


def _items(text: str) -> list[str]:
    return [item.strip("'\" ") for item in text.strip("[]() ").split(",") if item.strip()]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ParameterError.of("metrics", "a rollout", "a JSON list of metrics", text) from error


_OPERATORS = {
    "canary": "CanaryRolloutOperator",
    "shadow": "ShadowRolloutOperator",
    "blue_green": "BlueGreenRolloutOperator",
}
_LIMITS: tuple[tuple[tuple[str, ...], tuple[float, float], str], ...] = (
    (("alpha",), (1e-9, 0.5), "between 1e-9 and 0.5"),
    (("max_error_rate", "max_disagreement"), (0, 1), "between 0 and 1"),
    (("margin", "latency_margin", "bake_margin"), (0, 10), "between 0 and 10"),
    (("interval_seconds",), (0.05, 3600), "between 0.05 and 3600"),
    (("lease_seconds",), (0.1, inf), "0.1 or more"),
    (("mirror_percent",), (1, 100), "between 1 and 100"),
    (("shadow_percent",), (0, 100), "between 0 and 100"),
    (
        (
            "min_requests",
            "min_pairs",
            "shadow_min_pairs",
            "max_consecutive_errors",
            "ready_timeout_seconds",
        ),
        (1, inf),
        "1 or more",
    ),
    (
        (
            "step_min_seconds",
            "min_seconds",
            "shadow_min_seconds",
            "latency_slack_ms",
            "max_schema_violations",
            "outage_seconds",
            "bake_seconds",
            "keep_seconds",
            "approval_seconds",
            "rollback_timeout_seconds",
            "tolerance",
            "max_shift",
        ),
        (0, inf),
        "0 or more",
    ),
)
