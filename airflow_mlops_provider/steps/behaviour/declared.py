"""The kinds of behavioural tests, as a person declares them. Light to import in a DAG file.

::

    Invariance(name="case", transform={"lower": {"feature": "carrier"}}, tolerance=0.1)

A transformation is ``{name: arguments}`` with a name of ``transformations``, a list of such, a
function from frame to frame, or the import path of one. A relation is a name of ``relations``, or
a function ``(before, after) -> where it holds``, shape (n,), or its import path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

MAX_ROWS = 100_000
MAX_GIVEN = 1_000
Share = Annotated[float, Field(ge=0, le=1)]
Distance = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=MAX_ROWS)]


@dataclass(frozen=True, kw_only=True)
class BehaviourTest:
    """What all kinds have in common.

    Args:
        name: Unlike that of any other test of the suite.
        severity: A ``critical`` test that fails fails the report; a ``warning`` is told.
        max_failure_rate: Share of the rows that may break the relation.
        n: Rows to try, at most as many as there are.
        of: Of a model that answers with several numbers a row, which one; by default the last. It
            is left out for a model that answers with one number, such as a binary classifier.
        threshold: From which answer on one number means class 1.
        seed: Of whatever is random in the test.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)
    kind: ClassVar[str]
    name: str
    severity: Literal["critical", "warning"] = "critical"
    max_failure_rate: Share = 0.0
    n: Count = 1_000
    of: int | None = None
    threshold: float = 0.5
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Metamorphic(BehaviourTest):
    """A transformation of the inputs, and the relation of the answers that has to hold.

    Args:
        transform: What to do to the rows.
        relation: What has to hold between the answers before and after.
        tolerance: By how much answers may miss the relation, in their units.
    """

    kind: ClassVar[str] = "metamorphic"
    transform: Any
    relation: Any
    tolerance: Distance = 0.0


@dataclass(frozen=True, kw_only=True)
class Invariance(BehaviourTest):
    """A transformation that must not move the answer by more than ``tolerance``."""

    kind: ClassVar[str] = "invariance"
    transform: Any
    tolerance: Distance = 1e-6


@dataclass(frozen=True, kw_only=True)
class Directional(BehaviourTest):
    """Raising a feature must not lower (``up``) or not raise (``down``) the answer.

    Args:
        feature: The feature to move.
        by: One or several numbers to add; the answers have to be monotone along all of them and
            the row as it is. Give this or ``to``.
        to: Values to set, at least two, in the order in which the feature rises.
        direction: ``up`` or ``down``.
        tolerance: By how much an answer may go the other way.
    """

    kind: ClassVar[str] = "directional"
    feature: str
    by: float | list[float] | None = None
    to: list[Any] | None = None
    direction: Literal["up", "down"] = "up"
    tolerance: Distance = 1e-9


@dataclass(frozen=True, kw_only=True)
class MinimumFunctionality(BehaviourTest):
    """Rows whose answer is known.

    Args:
        rows: ``{"inputs": {feature: value}, "expected": ...}`` each, where ``expected`` is a
            number, ``{"class": 1}``, or ``{"low": 0.2, "high": 0.5}`` (or one of the two).
            Features that ``inputs`` leaves out are as in ``n`` rows of the data, each tried.
        tolerance: By how much the answer may miss an expected number.
    """

    kind: ClassVar[str] = "minimum_functionality"
    rows: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_GIVEN)]
    tolerance: Distance = 1e-6
    n: Count = 100


@dataclass(frozen=True, kw_only=True)
class Noise(BehaviourTest):
    """Noise must not flip the decision; ``max_failure_rate`` is the flip rate allowed.

    Args:
        features: Features to add noise to; by default all numbers.
        size: Standard deviation of the noise, in those of the feature in the sampled rows.
        tolerance: Instead of the decision, the answer must not move by more than this.
        max_mean_shift: The mean of the answers must not move by more than this.
    """

    kind: ClassVar[str] = "noise"
    features: list[str] | None = None
    size: Distance = 0.05
    tolerance: Distance | None = None
    max_mean_shift: Distance | None = None


@dataclass(frozen=True, kw_only=True)
class Missing(BehaviourTest):
    """Each feature by itself set to null: the model still gives a finite answer.

    Args:
        features: Features to take away; by default all of the model.
        tolerance: The answer must not move by more than this either.
    """

    kind: ClassVar[str] = "missing"
    features: list[str] | None = None
    tolerance: Distance | None = None


@dataclass(frozen=True, kw_only=True)
class Range(BehaviourTest):
    """A search of a box of inputs for answers out of range, not finite, or breaking a relation.

    It tries ``n`` points of a Sobol sequence, corners of the box (all of them up to 256), and
    around the worst of all these, ``refine`` times, ever closer. Features that are not in the box
    are as in sampled rows.

    Args:
        box: Feature to ``{"low": 0, "high": 1}``, ``{"low": 0, "high": 23, "step": 1}``, or a
            list of values.
        low: Lowest answer allowed.
        high: Highest answer allowed.
        transform: A transformation of the generated inputs, with
        relation: what has to hold between the answers before and after, within
        tolerance: this distance.
        refine: Rounds of looking around the worst points.
    """

    kind: ClassVar[str] = "range"
    box: dict[str, Any]
    low: float | None = None
    high: float | None = None
    transform: Any = None
    relation: Any = None
    tolerance: Distance = 0.0
    refine: Annotated[int, Field(ge=0, le=20)] = 3


@dataclass(frozen=True, kw_only=True)
class Consistency(BehaviourTest):
    """The model loaded here answers as it did where it is served.

    Args:
        source: Parquet with features and answers: a batch of predictions, or the compacted
            prediction log, of which the answers of this model count. By default the dataset.
        score: Column with the answers.
        url: Instead of logged answers, those of the endpoint at this URL, asked now.
        tolerance: By how much answers may differ.
    """

    kind: ClassVar[str] = "consistency"
    source: str | None = None
    score: str = "score"
    url: str | None = None
    tolerance: Distance = 1e-6


KINDS: dict[str, type[BehaviourTest]] = {
    each.kind: each
    for each in (
        Consistency,
        Directional,
        Invariance,
        Metamorphic,
        MinimumFunctionality,
        Missing,
        Noise,
        Range,
    )
}
