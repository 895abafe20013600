"""What there is to ask of a model's answers: names, directions and how each is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.metrics import confusion as cf
from airflow_mlops_provider.steps.metrics.influence import (
    UNIT,
    Estimate,
    Ranks,
    area_under_roc,
    average_precision,
    checked,
    estimate,
    mean_of,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from airflow_mlops_provider.records import Metric

    Floats = NDArray[np.float64]

Task = Literal["classification", "regression"]
_EPSILON = 1e-15


@dataclass(frozen=True)
class Sample:
    """Answers of one model, and the truth."""

    truth: Floats
    """Shape (n,): classes 0, 1, …, or numbers."""
    score: Floats
    """Shape (n,): probabilities of class 1, or predictions; or (n, k): of each class."""
    threshold: float = 0.5
    """From which probability on class 1 is decided."""

    @classmethod
    def of(cls, truth: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> Sample:
        """Return a sample of finite numbers.

        Raises:
            DataError: the lengths differ, or a value is NaN or infinite.
        """
        return cls(*checked(truth, score), threshold)

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def n_classes(self) -> int:
        """How many classes the scores tell apart."""
        return 2 if self.score.ndim == 1 else self.score.shape[1]

    @cached_property
    def label(self) -> NDArray[np.intp]:
        """The true classes, shape (n,)."""
        label = self.truth.astype(np.intp)
        wrong = (label != self.truth) | (label < 0) | (label >= self.n_classes)
        if wrong.any():
            raise DataError(
                f"Expected classes 0 to {self.n_classes - 1} as labels, got "
                f"{sorted(set(self.truth[wrong].tolist()))[:5]}. The model does not know them."
            )
        return label

    @cached_property
    def decided(self) -> NDArray[np.intp]:
        """The classes decided, shape (n,)."""
        if self.score.ndim == 1:
            return (self.score >= self.threshold).astype(np.intp)
        return np.asarray(self.score.argmax(axis=1))

    @cached_property
    def positive(self) -> NDArray[np.bool_]:
        """Where the truth is class 1, shape (n,)."""
        return np.asarray(self.label == 1)

    @cached_property
    def ranks(self) -> Ranks:
        """The order of the scores, which have shape (n,)."""
        return Ranks.of(self.score)

    def take(self, rows: NDArray[np.intp]) -> Sample:
        """Return the sample of some rows."""
        return Sample(self.truth[rows], self.score[rows], self.threshold)


@dataclass(frozen=True)
class Figure:
    """One figure: how it is computed, and which way is better."""

    estimate: Callable[[Sample], Estimate | None]
    """None if the sample has nothing to ask, no positive for a recall, say."""
    greater_is_better: bool = True
    ratio: cf.Ratio | None = None
    """What it is over the confusion matrix, if it is."""
    rows: Callable[[Sample], Floats] | None = None
    """Each row's part, shape (n,), of a figure that is their mean."""


def figures_of(task: Task, n_classes: int = 2) -> Mapping[str, Figure]:
    """Return all figures of a task by name; the first is what slices and gates look at."""
    if task == "regression":
        return REGRESSION
    if task != "classification":
        raise ParameterError.of("task", "evaluate", "'classification' or 'regression'", task)
    return BINARY if n_classes == 2 else _several_classes(n_classes)


def figure_of(name: str, task: Task, n_classes: int = 2) -> Figure:
    """Return one figure.

    Raises:
        ParameterError: the task has no figure of that name.
    """
    known = figures_of(task, n_classes)
    if name not in known:
        raise ParameterError.of("metric", "evaluate", f"one of {sorted(known)}", name)
    return known[name]


def auc_with_interval(target: ArrayLike, score: ArrayLike, confidence: float = 0.95) -> Metric:
    """Return the area under the ROC curve of scores, shape (n,), for labels 0 and 1."""
    sample = Sample.of(target, score)
    return area_under_roc(sample.positive, sample.score).metric(confidence)


def _mean(rows: Callable[[Sample], Floats], *, greater: bool = False, unit: bool = False) -> Figure:
    bounds = UNIT if unit else (-np.inf, np.inf)
    return Figure(lambda sample: mean_of(rows(sample), bounds), greater, rows=rows)


def ratio_figure(ratio: cf.Ratio, *, greater_is_better: bool = True) -> Figure:
    """Return the figure of decisions that ``ratio`` is."""
    return Figure(lambda sample: _of_decisions(ratio, sample), greater_is_better, ratio=ratio)


def _of_decisions(ratio: cf.Ratio, sample: Sample) -> Estimate | None:
    found = ratio.of_counts(cf.confusion(sample.label, sample.decided, sample.n_classes))
    if found is None:
        return None
    influence = ratio.influence(found.value, sample.label, sample.decided)
    return Estimate(found.value, found.variance, found.n, found.bounds, influence)


def _average(ratios: list[cf.Ratio]) -> Figure:
    return Figure(lambda sample: _average_of(ratios, sample))


def _average_of(ratios: list[cf.Ratio], sample: Sample) -> Estimate | None:
    parts = [part for ratio in ratios if (part := _of_decisions(ratio, sample)) is not None]
    if len(parts) < len(ratios):
        return None
    influences = [part.influence for part in parts if part.influence is not None]
    value = float(np.mean([part.value for part in parts]))
    return estimate(value, np.mean(influences, axis=0), min(part.n for part in parts), UNIT)


def _log_loss(sample: Sample) -> Floats:
    chance = sample.score
    if chance.ndim == 1:
        chance = np.where(sample.positive, chance, 1 - chance)
    else:
        chance = chance[np.arange(len(sample)), sample.label]
    return np.asarray(-np.log(np.clip(chance, _EPSILON, 1)))


def _brier(sample: Sample) -> Floats:
    if sample.score.ndim == 1:
        return np.asarray((sample.score - sample.truth) ** 2)
    hot = np.eye(sample.n_classes)[sample.label]
    return np.asarray(((sample.score - hot) ** 2).sum(axis=1))


def _squared(sample: Sample) -> Floats:
    return np.asarray((sample.score - sample.truth) ** 2)


def _rmse(sample: Sample) -> Estimate:
    squares = _squared(sample)
    root = float(np.sqrt(squares.mean()))
    return estimate(root, (squares - squares.mean()) / (2 * root or 1.0), bounds=(0.0, np.inf))


def _r2(sample: Sample) -> Estimate | None:
    spread = (sample.truth - sample.truth.mean()) ** 2
    if not spread.any():
        return None
    left = _squared(sample).mean() / spread.mean()
    influence = (left * spread - _squared(sample)) / spread.mean()
    return estimate(1 - left, influence, bounds=(-np.inf, 1.0))


BINARY: Mapping[str, Figure] = {
    "auc": Figure(lambda sample: area_under_roc(sample.positive, sample.score, sample.ranks)),
    "average_precision": Figure(
        lambda sample: average_precision(sample.positive, sample.score, sample.ranks)
    ),
    "log_loss": _mean(_log_loss),
    "brier": _mean(_brier, unit=True),
    **{
        name: ratio_figure(ratio, greater_is_better=name != "false_positive_rate")
        for name, ratio in cf.BINARY.items()
    },
    "balanced_accuracy": _average([cf.BINARY["recall"], cf.BINARY["specificity"]]),
}
REGRESSION: Mapping[str, Figure] = {
    "mse": _mean(_squared),
    "mae": _mean(lambda sample: np.abs(sample.score - sample.truth)),
    "rmse": Figure(_rmse, greater_is_better=False),
    "r2": Figure(_r2),
    "bias": _mean(lambda sample: sample.score - sample.truth),
}


def _several_classes(n_classes: int) -> Mapping[str, Figure]:
    labels = range(n_classes)
    return {
        "accuracy": ratio_figure(cf.accuracy(n_classes)),
        "log_loss": _mean(_log_loss),
        "brier": _mean(_brier),
        "balanced_accuracy": _average([cf.recall_of(label, n_classes) for label in labels]),
        "macro_f1": _average([cf.f1_of(label, n_classes) for label in labels]),
    }
