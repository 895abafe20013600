"""The promotion gate: floors first, then the challenger against the champion on the same rows.

A challenger is shown to be better (or not worse) only when the whole confidence interval of the
difference says so; a number that is a little higher by luck promotes nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import (
    ArtifactCheck,
    BehaviourReport,
    EvaluationReport,
    Fairness,
    GateReason,
    GateVerdict,
    Metric,
    UnusableModel,
    ValidationReport,
)
from airflow_mlops_provider.steps.evaluate.predictions import read_predictions
from airflow_mlops_provider.steps.importing import import_object
from airflow_mlops_provider.steps.metrics.figures import figure_of
from airflow_mlops_provider.steps.metrics.resample import custom_difference

Mode = Literal["superiority", "non_inferiority"]
Outcome = Literal["promote", "keep_champion", "refused"]
_Figure = tuple[float, int, bool]
MODES = ("superiority", "non_inferiority")


@dataclass(frozen=True)
class Rule:
    """What is asked of a challenger."""

    metric: str = "auc"
    """What to compare, and the better way of it is known."""
    mode: Mode = "superiority"
    """``superiority``: better by more than ``margin``. ``non_inferiority``: not worse by more."""
    margin: float = 0.0
    """In units of ``metric``, not negative."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """The worst value allowed (a maximum where less is better) of a metric, or of
    ``golden.METRIC``, ``fairness.COLUMN.FIGURE``, ``cost.FIGURE`` or ``calibration_error``."""
    slice_floor: float | None = None
    """The worst value allowed in any slice, of the metric that slices show."""
    confidence: float = 0.95
    """Of the two-sided interval of the difference."""
    replace_unusable_champion: bool = False
    """Whether a champion that cannot be judged any more may be replaced on the floors alone."""


def judge_challenger(
    challenger: EvaluationReport,
    champion: EvaluationReport | UnusableModel | None,
    rule: Rule,
    *,
    evidence: Sequence[GateReason] = (),
) -> GateVerdict:
    """Decide whether a challenger may take the champion's place.

    Args:
        challenger: Its evaluation.
        champion: The champion's evaluation on the same rows. None if there is no champion, and
            then the floors alone decide.
        rule: What is asked.
        evidence: What other checks found, of data or behaviour; each has to have passed.

    Raises:
        ParameterError: the rule asks for a figure that the evaluation does not have.
        DataError: the two were not judged on the same rows.
    """
    _check(challenger, rule)
    hard = [*evidence, *_floors(challenger, rule.floors), *_slice_floors(challenger, rule)]
    if isinstance(champion, UnusableModel):
        hard.append(_unusable(champion, rule))
    reasons = list(hard)
    if isinstance(champion, EvaluationReport):
        reasons.append(_comparison(challenger, champion, rule))
    return GateVerdict(
        outcome=_outcome(hard, reasons),
        challenger_uri=challenger.model_uri,
        champion_uri=champion.model_uri if champion else None,
        reasons=reasons,
    )


def data_evidence(report: ValidationReport) -> GateReason:
    """Return what the gate makes of a data gate: only a skewed schema speaks against a model."""
    broken = report.n_failed + report.n_errored
    return GateReason(
        check=f"data:{report.suite}",
        passed=report.outcome != "stop",
        detail=f"{report.outcome}: {broken} of {report.n_expectations} expectations did not hold",
        n=report.n_expectations,
    )


def behaviour_evidence(report: BehaviourReport) -> list[GateReason]:
    """Return what the gate makes of behavioural tests: each critical one has to have passed."""
    return [
        GateReason(
            check=f"behaviour:{test.name}",
            passed=test.outcome == "passed",
            detail=": ".join(filter(None, [test.outcome, test.detail])),
            n=test.n,
        )
        for test in report.tests
        if test.severity == "critical"
    ]


def artifact_evidence(check: ArtifactCheck) -> GateReason:
    """Return what the gate makes of a model's answers in a clean process: they are the same."""
    different = "; ".join(check.different_requirements)
    return GateReason(
        check=f"artifact:{check.environment}",
        passed=check.outcome == "passed",
        detail=(
            f"{check.outcome}: {check.n_differing} of {check.n} answers in a clean process (Python "
            f"{check.python}) differ, by at most {check.largest_difference:.3g}; "
            f"{check.tolerance:.3g} was allowed" + (f". {different}" if different else "")
        ),
        n=check.n,
    )


def _outcome(hard: Sequence[GateReason], reasons: Sequence[GateReason]) -> Outcome:
    if not all(reason.passed for reason in hard):
        return "refused"
    return "promote" if all(reason.passed for reason in reasons) else "keep_champion"


def _check(challenger: EvaluationReport, rule: Rule) -> None:
    if rule.metric not in challenger.metrics:
        known = f"one of {sorted(challenger.metrics)}"
        raise ParameterError.of("metric", "gate", known, rule.metric)
    if rule.mode not in MODES:
        raise ParameterError.of("mode", "gate", "'superiority' or 'non_inferiority'", rule.mode)
    if rule.margin < 0:
        raise ParameterError.of("margin", "gate", "zero or positive", rule.margin)
    if not 0.5 <= rule.confidence < 1:
        raise ParameterError.of("confidence", "gate", "in [0.5, 1)", rule.confidence)


def _floors(challenger: EvaluationReport, floors: Mapping[str, float]) -> list[GateReason]:
    figures = _figures(challenger)
    reasons = []
    for name, floor in floors.items():
        if name not in figures:
            raise ParameterError.of("floors", "gate", f"of {sorted(figures)}", name)
        value, n, greater = figures[name]
        reasons.append(_floor_reason(name, name, value, floor, n, greater))
    return reasons


def _figures(report: EvaluationReport) -> dict[str, _Figure]:
    """Return every figure a floor may name: its value, its rows, and whether more is better."""
    better = report.greater_is_better
    n = max((metric.n for metric in report.metrics.values()), default=0)
    found = {name: (each.value, each.n, better[name]) for name, each in report.metrics.items()}
    for name, each in report.golden.items():
        found[f"golden.{name}"] = (each.value, each.n, better[name])
    for fairness in report.fairness:
        found |= _fairness_figures(fairness, n)
    if report.calibration_error is not None:
        found["calibration_error"] = (report.calibration_error, n, False)
    if report.cost is not None:
        costs = report.cost.to_xcom()
        found |= {f"cost.{name}": (value, 1, False) for name, value in costs.items()}
    return found


def _fairness_figures(fairness: Fairness, n: int) -> dict[str, _Figure]:
    figures = {
        "demographic_parity_ratio": (fairness.demographic_parity_ratio, True),
        "demographic_parity_difference": (fairness.demographic_parity_difference, False),
        "equalized_odds_difference": (fairness.equalized_odds_difference, False),
    }
    return {
        f"fairness.{fairness.column}.{name}": (value, n, greater)
        for name, (value, greater) in figures.items()
        if value is not None
    }


def _slice_floors(challenger: EvaluationReport, rule: Rule) -> list[GateReason]:
    floor = rule.slice_floor
    if floor is None:
        return []
    return [
        _floor_reason(
            f"{cut.column}={cut.value}",
            cut.metric,
            cut.score,
            floor,
            cut.n,
            challenger.greater_is_better[cut.metric],
        )
        for cut in challenger.slices
    ]


def _floor_reason(
    label: str, metric: str, value: float, floor: float, n: int, greater: bool
) -> GateReason:
    bound = "at least" if greater else "at most"
    return GateReason(
        check=f"floor:{label}",
        passed=value >= floor if greater else value <= floor,
        detail=f"{metric} {value:.4f}, {bound} {floor:.4f} was asked",
        n=n,
    )


def _unusable(champion: UnusableModel, rule: Rule) -> GateReason:
    allowed = rule.replace_unusable_champion
    then = (
        "the floors alone decide"
        if allowed
        else "set replace_unusable_champion to let the floors alone decide"
    )
    return GateReason(
        check="champion:usable",
        passed=allowed,
        detail=f"{champion.model_uri} cannot be judged ({champion.reason}); {then}",
        n=0,
    )


def _comparison(challenger: EvaluationReport, champion: EvaluationReport, rule: Rule) -> GateReason:
    gain = _gain(challenger, champion, rule)
    bar = rule.margin if rule.mode == "superiority" else -rule.margin
    low = gain.low if gain.low is not None else -np.inf
    return GateReason(
        check=f"{rule.mode}:{rule.metric}",
        passed=bool(low > bar),
        detail=(
            f"challenger gains {gain.value:+.4f} in {rule.metric} over the champion, "
            f"at least {low:+.4f} with {0.5 + rule.confidence / 2:.1%} confidence; more than "
            f"{bar:+.4f} was asked"
        ),
        n=gain.n,
    )


def _gain(challenger: EvaluationReport, champion: EvaluationReport, rule: Rule) -> Metric:
    """Return how much better the challenger is; positive is better for losses too."""
    new, old = read_predictions(challenger), read_predictions(champion)
    if challenger.dataset_uri != champion.dataset_uri or not np.array_equal(new.truth, old.truth):
        raise DataError(
            "Expected both models judged on the same rows, got "
            f"{challenger.dataset_uri} and {champion.dataset_uri}. Evaluate both on one dataset."
        )
    if new.score.shape != old.score.shape:
        raise DataError(
            f"Expected answers of one kind, got {new.score.shape} of {challenger.model_uri} and "
            f"{old.score.shape} of {champion.model_uri}. Models of other classes are another task."
        )
    path = challenger.custom_metrics.get(rule.metric)
    if path is not None:
        function = import_object(path, "custom_metrics", "evaluate")
        return custom_difference(function, new, old, confidence=rule.confidence)
    figure = figure_of(rule.metric, challenger.task, new.n_classes)
    ours, theirs = figure.estimate(new), figure.estimate(old)
    if ours is None or theirs is None:
        raise DataError(
            f"{rule.metric} is not defined on these {len(new)} rows. Compare by another metric."
        )
    better, worse = (ours, theirs) if figure.greater_is_better else (theirs, ours)
    return better.minus(worse).metric(rule.confidence)
