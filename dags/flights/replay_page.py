"""The tables of a replay, as the page that the documentation shows."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from flights.replay_live import MAX_DRIFTED_SHARE, MAX_DROP
from flights.replay_models import RULE
from flights.replay_policies import COOL_DOWN, MonthServed

if TYPE_CHECKING:
    from airflow_mlops_provider.records import Metric
    from flights.replay_data import Landed
    from flights.replay_results import Course, Replay

_NAMED = 3
_VERDICTS = (
    "month | flights | late of all | late of arrived | features drifted | moved most (PSI) | "
    "signals"
)
_QUALITY = "month | moved scores (PSI) | estimated AUC | labels | AUC | Brier score"
_COSTS = (
    "policy | trainings | promoted | champion kept | refused | flights learned from | AUC | "
    "Brier score | log loss | calibration error"
)
_GAINS = "policy | AUC | Brier score | log loss"
_MONTHS = (
    "month | learned until | promised AUC | AUC | late of arrived | predicted | Brier score | "
    "calibration error | signals | gate"
)


def page(replay: Replay) -> str:
    """Return the page of a replay."""
    courses = replay.courses
    months = (part for course in courses for part in _monthly(course))
    monitored = _monitored(courses[0], replay.learned)
    parts = [*monitored, *_compared(courses), *months, _made(courses)]
    return "\n\n".join(parts) + "\n"


def _monitored(course: Course, learned: Sequence[Landed]) -> Iterator[str]:
    yield "# The year 2013, replayed"
    yield (
        f"A champion that learned from {_span(learned)} answers for the flights of the months "
        "after, and the monitor looks as each month ends, with the labels that had come by then. "
        "How to read this: [monitoring](monitoring.md#a-year-replayed)."
    )
    yield "## What the monitor said of the first champion"
    yield "![Late flights, drift and AUC by month](images/replay-verdicts.png)"
    yield _table(_VERDICTS, [*map(_learned, learned), *_verdicts(course)])
    yield _table(_QUALITY, _quality(course))
    promised = course.months[0].champion.evaluation.metrics["auc"]
    yield (
        f"`drift` is raised from {MAX_DRIFTED_SHARE:.0%} drifted features on; `performance` if the "
        f"whole 95 % interval of the AUC lies below {promised.value - MAX_DROP:.3f}: the champion "
        f"was promoted with {_interval(promised)} (n={promised.n:,}), and may lose {MAX_DROP}. The "
        "estimate is made without labels, and assumes that what is late for given inputs is as it "
        "was."
    )


def _compared(courses: Sequence[Course]) -> Iterator[str]:
    yield "## When to train anew"
    yield "![Quality by month and by trainings](images/replay-policies.png)"
    yield _table(_COSTS, map(_costs, courses))
    yield (
        "All months together, with 95 % intervals that take days as independent. Triggered "
        f"retraining rests {COOL_DOWN} day after a training. The gate asks for "
        f"{RULE.mode.replace('_', '-')} by {RULE.margin} in {RULE.metric.upper()} and for floors."
    )
    yield f"Better than {courses[0].policy} by, on the same flights:"
    yield _table(_GAINS, ([each.policy, *map(_gain, each.gains.values())] for each in courses[1:]))
    if unpromoted := [line for each in courses for line in _unpromoted(each)]:
        yield "Challengers that were not promoted, and why:"
        yield "\n".join(unpromoted)


def _monthly(course: Course) -> Iterator[str]:
    yield f"## Month by month: {course.policy}"
    yield _table(_MONTHS, _months(course))


def _unpromoted(course: Course) -> Iterator[str]:
    for each in course.months:
        if each.attempt and each.attempt.verdict.outcome != "promote":
            broken = [reason for reason in each.attempt.verdict.reasons if not reason.passed]
            why = "; ".join(f"`{reason.check}`: {reason.detail}" for reason in broken)
            yield f"- {course.policy}, end of {each.month}: {why}"


def _learned(each: Landed) -> list[str]:
    return [each.month, *_late(each.n, each.n_arrived, each.late_rate), "learned from", "", ""]


def _late(n: int, n_arrived: int, late_rate: float) -> list[str]:
    return [f"{n:,}", f"{late_rate * n_arrived / n:.1%}", f"{late_rate:.1%}"]


def _verdicts(course: Course) -> Iterator[list[str]]:
    for each, figures in zip(course.months, course.figures, strict=True):
        report, drift = each.live.report, each.live.report.drift
        assert drift is not None, "the replay always has a profile"
        moved = [item for item in drift.features if item.status == "drifted"]
        named = ", ".join(f"{item.feature} {item.psi:.2f}" for item in moved[:_NAMED])
        yield [
            each.month,
            *_late(report.n_predictions, figures.n, figures.late_rate),
            f"{len(moved)} of {drift.n_features}",
            named or "-",
            _signals(each),
        ]


def _quality(course: Course) -> Iterator[list[str]]:
    for each in course.months:
        report = each.live.report
        scores, estimated = report.prediction_drift, report.estimated_performance.get("auc")
        yield [
            each.month,
            f"{scores.psi:.2f}" if scores and scores.psi is not None else "-",
            _interval(estimated) if estimated else "-",
            f"{report.n_labelled:,} ({report.label_coverage or 0:.1%})",
            _interval(report.performance["auc"]),
            _interval(report.performance["brier"]),
        ]


def _costs(course: Course) -> list[str]:
    count = course.n_outcomes.get
    return [
        course.policy,
        str(course.trainings),
        *(str(count(outcome, 0)) for outcome in ("promote", "keep_champion", "refused")),
        f"{course.rows:,}",
        *map(_interval, course.pooled.values()),
        f"{course.calibration_error:.3f}",
    ]


def _months(course: Course) -> Iterator[list[str]]:
    for each, figures in zip(course.months, course.figures, strict=True):
        yield [
            each.month,
            each.champion.month,
            f"{each.champion.evaluation.metrics['auc'].value:.3f}",
            _interval(figures.auc),
            f"{figures.late_rate:.1%}",
            f"{figures.predicted_rate:.1%}",
            _interval(figures.brier),
            f"{figures.calibration_error:.3f}",
            _signals(each),
            each.attempt.verdict.outcome.replace("_", " ") if each.attempt else "-",
        ]


def _signals(served: MonthServed) -> str:
    return ", ".join(served.live.report.signals) or "-"


def _interval(metric: Metric) -> str:
    if metric.low is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})"


def _gain(metric: Metric) -> str:
    return f"{metric.value:+.4f} ({metric.low:+.4f} to {metric.high:+.4f})"


def _span(months: Sequence[Landed]) -> str:
    names = [pd.Timestamp(each.month).month_name() for each in months]
    return " to ".join(dict.fromkeys([names[0], names[-1]]))


def _table(header: str, rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["--:"] * header.count("|")]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header.split(" | "), rule, *rows])


def _made(courses: Sequence[Course]) -> str:
    took = ", ".join(f"{each.policy} {each.seconds:.0f} s" for each in courses[1:])
    return (
        f"Made by `make replay` on {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}. Fitting took, after the first champion: {took}. All other "
        "figures are the same in every run."
    )
