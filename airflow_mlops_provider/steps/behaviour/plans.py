"""Each kind of test, spelled in changes and a relation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.behaviour import declared as kinds
from airflow_mlops_provider.steps.behaviour.asking import Answers, ask
from airflow_mlops_provider.steps.behaviour.box import axes, search
from airflow_mlops_provider.steps.behaviour.engine import Change, Findings, compare
from airflow_mlops_provider.steps.behaviour.relations import (
    Relation,
    Slack,
    between,
    both,
    relation,
)
from airflow_mlops_provider.steps.behaviour.served import logged, served
from airflow_mlops_provider.steps.behaviour.transformations import (
    is_number,
    noisy,
    null,
    transformation,
)

AS_IT_WAS = Change("as it was", transformation("identity"))


@dataclass(frozen=True)
class Subject:
    """A model under test, and rows to try it on."""

    model: Any
    model_uri: str
    dataset_uri: str
    rows: pd.DataFrame
    """The model's features, in random order."""
    seed: int

    @property
    def features(self) -> list[str]:
        """The columns of the model's signature."""
        return list(self.rows.columns)


def run(test: kinds.BehaviourTest, subject: Subject) -> Findings:
    """Try a test on a model."""
    return _RUNS[type(test)](test, subject)


def _compared(
    test: kinds.BehaviourTest,
    subject: Subject,
    changes: list[Change],
    holds: Relation,
    *,
    rows: pd.DataFrame | None = None,
    along: bool = False,
    reference: Answers | None = None,
    rng: np.random.Generator | None = None,
) -> Findings:
    return compare(
        subject.rows.head(test.n) if rows is None else rows,
        changes,
        lambda frame: ask(subject.model, frame, test.of),
        holds,
        rng=rng or np.random.default_rng(test.seed),
        along=along,
        reference=reference,
    )


def _metamorphic(test: kinds.Metamorphic, subject: Subject) -> Findings:
    holds = relation(test.relation, tolerance=test.tolerance, threshold=test.threshold)
    return _compared(test, subject, [AS_IT_WAS, _change(test.transform)], holds)


def _invariance(test: kinds.Invariance, subject: Subject) -> Findings:
    holds = relation("same", tolerance=test.tolerance)
    return _compared(test, subject, [AS_IT_WAS, _change(test.transform)], holds)


def _change(declared: Any) -> Change:
    return Change("transformed", transformation(declared), counts_all=declared == "identity")


def _directional(test: kinds.Directional, subject: Subject) -> Findings:
    if test.to is None:
        by = test.by if isinstance(test.by, list) else [test.by]
        moves = [("add", value) for value in sorted({0.0, *filter(None, by)})]
    else:
        moves = [("set", value) for value in test.to]
    changes = [
        Change(f"{test.feature} {move} {value}", _moved(test.feature, move, value))
        for move, value in moves
    ]
    holds = relation(
        "not_lower" if test.direction == "up" else "not_higher", tolerance=test.tolerance
    )
    return _compared(test, subject, changes, holds, along=True)


def _moved(feature: str, move: str, value: Any) -> Callable[..., pd.DataFrame]:
    return transformation({move: {"feature": feature, "value": value}})


def _noise(test: kinds.Noise, subject: Subject) -> Findings:
    rows = subject.rows.head(test.n)
    names = test.features
    if names is None:
        names = [name for name in rows.columns if is_number(rows[name])]
    shaken = Change("with noise", lambda frame, rng: noisy(frame, rng, names, test.size))
    if test.tolerance is None:
        holds = relation("same_decision", threshold=test.threshold)
    else:
        holds = relation("same", tolerance=test.tolerance)
    return _compared(test, subject, [AS_IT_WAS, shaken], holds)


def _missing(test: kinds.Missing, subject: Subject) -> Findings:
    changes = [
        Change(f"{name} missing", transformation({"set": {"feature": name, "value": None}}))
        for name in (subject.features if test.features is None else test.features)
    ]
    if test.tolerance is None:
        holds = relation("answered")
    else:
        holds = relation("same", tolerance=test.tolerance)
    return _compared(test, subject, [AS_IT_WAS, *changes], holds)


def _minimum_functionality(test: kinds.MinimumFunctionality, subject: Subject) -> Findings:
    frames = [_given(row["inputs"], subject, test.n) for row in test.rows]
    bounds = np.array([_bounds(row["expected"], test.tolerance) for row in test.rows])
    bounds = bounds.repeat([len(frame) for frame in frames], axis=0)
    exact, low, high, wanted = bounds.T

    def holds(before: Answers, after: Answers) -> Slack:
        right = np.where(after.decision(test.threshold) == wanted, 0.0, -1.0)
        return np.where(np.isnan(wanted), between(low, high)(before, after), right)

    given = Change("given row", AS_IT_WAS.transform)
    rows = pd.concat(frames, ignore_index=True)
    reference = Answers(exact[:, None])
    return _compared(test, subject, [given], holds, rows=rows, reference=reference)


def _given(inputs: Mapping[str, Any], subject: Subject, n: int) -> pd.DataFrame:
    foreign = [name for name in inputs if name not in subject.features]
    if foreign:
        raise DataError(
            f"Expected inputs to be features of the model, got {foreign} beside "
            f"{sorted(subject.features)}. Correct the test."
        )
    frame = subject.rows.head(1 if set(inputs) == set(subject.features) else n)
    for name, value in inputs.items():
        frame = null(frame, name) if value is None else frame.assign(**{name: value})
    return frame


def _bounds(expected: Any, tolerance: float) -> tuple[float, float, float, float]:
    """Return the exact answer, the bounds, and the class; NaN or infinity where not given."""
    if not isinstance(expected, Mapping):
        return expected, expected - tolerance, expected + tolerance, np.nan
    low, high = expected.get("low", -np.inf), expected.get("high", np.inf)
    return np.nan, low, high, expected.get("class", np.nan)


def _range(test: kinds.Range, subject: Subject) -> Findings:
    within = between(test.low, test.high)
    changes, holds = [Change("generated row", AS_IT_WAS.transform)], within
    if test.transform is not None:
        pair = relation(test.relation, tolerance=test.tolerance, threshold=test.threshold)
        changes.append(_change(test.transform))
        holds = both(pair, within, lambda before, _: within(before, before))
    rng = np.random.default_rng(test.seed)
    return search(
        axes(test.box),
        subject.rows,
        lambda rows: _compared(test, subject, changes, holds, rows=rows, rng=rng),
        n=test.n,
        refine=test.refine,
        rng=rng,
    )


def _consistency(test: kinds.Consistency, subject: Subject) -> Findings:
    if test.url is not None:
        rows = subject.rows.head(test.n)
        reference = served(test.url, rows, test.of)
    else:
        rows, reference = logged(
            test.source or subject.dataset_uri,
            subject.features,
            test.score,
            test.n,
            model_uri=subject.model_uri,
            seed=subject.seed,
        )
    asked = Change("asked here", AS_IT_WAS.transform)
    holds = relation("same", tolerance=test.tolerance)
    return _compared(test, subject, [asked], holds, rows=rows, reference=reference)


_RUNS: dict[type[kinds.BehaviourTest], Callable[[Any, Subject], Findings]] = {
    kinds.Consistency: _consistency,
    kinds.Directional: _directional,
    kinds.Invariance: _invariance,
    kinds.Metamorphic: _metamorphic,
    kinds.MinimumFunctionality: _minimum_functionality,
    kinds.Missing: _missing,
    kinds.Noise: _noise,
    kinds.Range: _range,
}
