"""Compare a model's answers before and after changes of its inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from airflow_mlops_provider.records import Counterexample
from airflow_mlops_provider.steps.behaviour.asking import CHUNK_ROWS, Answers, unknown
from airflow_mlops_provider.steps.behaviour.relations import Relation, Slack, broken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_mlops_provider.steps.behaviour.transformations import Transformation

Ask = Callable[[pd.DataFrame], Answers]
MAX_EXAMPLES = 5
_MAX_INPUTS = 20
_MAX_TEXT = 80


@dataclass(frozen=True)
class Change:
    """A transformation with a name that a person knows it by."""

    label: str
    transform: Transformation
    counts_all: bool = False
    """Whether rows that it leaves as they are count as well."""


@dataclass
class Findings:
    """What became of the rows."""

    slack: Slack
    """The least of each row; infinite while it was not compared."""
    by_label: Counter[str] = field(default_factory=Counter)
    """How many rows each change breaks."""
    shifts: list[NDArray[np.float64]] = field(default_factory=list)
    examples: list[tuple[float, Counterexample]] = field(default_factory=list)
    """Slack and example, the worst first."""
    compared: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.compared = np.zeros(len(self.slack), dtype=bool)

    @property
    def n(self) -> int:
        """Rows that were changed and compared."""
        return int(self.compared.sum())

    @property
    def failures(self) -> int:
        """Rows that break the relation."""
        return int(broken(self.slack[self.compared]).sum())

    @property
    def mean_shift(self) -> float | None:
        """Mean of answers after minus before, as far as both are known."""
        shifts = np.concatenate(self.shifts) if self.shifts else np.empty(0)
        return float(shifts.mean()) if len(shifts) else None

    def and_more(self, other: Findings) -> Findings:
        """Return these findings with those of other rows."""
        joined = Findings(np.concatenate([self.slack, other.slack]))
        joined.compared = np.concatenate([self.compared, other.compared])
        joined.by_label = self.by_label + other.by_label
        joined.shifts = self.shifts + other.shifts
        joined.examples = _worst(self.examples + other.examples)
        return joined


def compare(
    rows: pd.DataFrame,
    changes: Sequence[Change],
    ask: Ask,
    relation: Relation,
    *,
    rng: np.random.Generator,
    along: bool = False,
    reference: Answers | None = None,
) -> Findings:
    """Ask about ``rows`` after each change, and hold the answers to ``relation``.

    Rows are asked about as they are after the first change, and each later one is compared with
    that; or, ``along``, with the change before it. A single change is compared with ``reference``,
    or, without one, with nothing. Frames of one set of types go to the model together, at most
    100,000 rows at once.

    Args:
        rows: Features, shape (n, k), with an index 0, 1, ...
        changes: What to do to them, each starting from ``rows``.
        ask: Gives the model's answers.
        relation: What has to hold.
        rng: What transformations draw from.
        along: Whether the answers form a path.
        reference: Answers to the rows that somebody else gave.
    """
    findings = Findings(np.full(len(rows), np.inf))
    asked = _asked(rows, changes, ask, rng)
    change, frame, answers = next(asked)
    if len(changes) == 1:
        before = reference or unknown(len(rows))
        pair = _Pair(change, rows, frame, before, answers)
        _take(findings, pair, relation, np.ones(len(rows), dtype=bool))
    earlier = frame, answers
    for change, frame, answers in asked:
        pair = _Pair(change, earlier[0], frame, earlier[1], answers)
        _take(findings, pair, relation, pair.changed)
        if along:
            earlier = frame, answers
    return findings


@dataclass(frozen=True)
class _Pair:
    """Rows before and after a change, with the answers to both."""

    change: Change
    before: pd.DataFrame
    after: pd.DataFrame
    answers_before: Answers
    answers_after: Answers

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which rows count as changed, shape (n,)."""
        changed = np.full(len(self.before), self.change.counts_all)
        for name in self.before.columns:
            changed |= _differs(self.before[name], self.after[name])
        return changed


def _asked(
    rows: pd.DataFrame, changes: Sequence[Change], ask: Ask, rng: np.random.Generator
) -> Iterator[tuple[Change, pd.DataFrame, Answers]]:
    group: list[tuple[Change, pd.DataFrame]] = []
    for change in changes:
        frame = change.transform(rows, rng)
        full = (len(group) + 1) * len(rows) > CHUNK_ROWS
        if group and (full or not frame.dtypes.equals(group[-1][1].dtypes)):
            yield from _answered(group, ask)
            group = []
        group.append((change, frame))
    yield from _answered(group, ask)


def _answered(
    group: list[tuple[Change, pd.DataFrame]], ask: Ask
) -> Iterator[tuple[Change, pd.DataFrame, Answers]]:
    frames = [frame for _, frame in group]
    answers = ask(frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True))
    start = 0
    for change, frame in group:
        yield change, frame, answers.part(start, start + len(frame))
        start += len(frame)


def _take(findings: Findings, pair: _Pair, relation: Relation, counted: NDArray[np.bool_]) -> None:
    slack = relation(pair.answers_before, pair.answers_after)
    slack = np.where(np.isnan(slack), -np.inf, slack)
    findings.compared |= counted
    findings.slack = np.where(counted, np.minimum(findings.slack, slack), findings.slack)
    wrong = np.flatnonzero(counted & broken(slack))
    if len(wrong):
        findings.by_label[pair.change.label] += len(wrong)
    shift = (pair.answers_after.score - pair.answers_before.score)[counted]
    findings.shifts.append(shift[np.isfinite(shift)])
    worst = wrong[np.argsort(slack[wrong], kind="stable")][:MAX_EXAMPLES]
    found = [(float(slack[row]), _example(pair, int(row))) for row in worst]
    findings.examples = _worst(findings.examples + found)


def _worst(
    examples: list[tuple[float, Counterexample]],
) -> list[tuple[float, Counterexample]]:
    return sorted(examples, key=lambda pair: pair[0])[:MAX_EXAMPLES]


def _example(pair: _Pair, row: int) -> Counterexample:
    names = list(pair.before.columns)
    before, after = (frame.iloc[[row]] for frame in (pair.before, pair.after))
    changed = [name for name in names if _differs(before[name], after[name])[0]]
    shown = [*changed, *(name for name in names if name not in changed)][:_MAX_INPUTS]
    refused = pair.answers_after.refusals.get(row) or pair.answers_before.refusals.get(row)
    return Counterexample(
        inputs={str(name)[:_MAX_TEXT]: _text(before[name].iloc[0]) for name in shown},
        changed={
            str(name)[:_MAX_TEXT]: _text(after[name].iloc[0]) for name in changed[:_MAX_INPUTS]
        },
        before=_finite(pair.answers_before.score[row]),
        after=_finite(pair.answers_after.score[row]),
        note=": ".join(filter(None, (pair.change.label, refused))),
    )


def _differs(before: pd.Series[Any], after: pd.Series[Any]) -> NDArray[np.bool_]:
    there = before.notna().to_numpy(), after.notna().to_numpy()
    differs: NDArray[np.bool_] = there[0] != there[1]
    both = there[0] & there[1]
    left, right = (each.to_numpy(dtype=object)[both] for each in (before, after))
    differs[both] = (left != right).astype(bool)
    return differs


def _text(value: Any) -> str:
    return "null" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value)[:_MAX_TEXT]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
