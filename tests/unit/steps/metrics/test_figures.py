from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.metrics.confusion import cost
from airflow_mlops_provider.steps.metrics.figures import (
    Sample,
    auc_with_interval,
    figure_of,
    figures_of,
    ratio_figure,
)

RNG = np.random.default_rng(0)


def binary(n, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return y, 1 / (1 + np.exp(0.6 - 1.2 * y - rng.normal(size=n)))


def several(n, seed=0, k=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    raw = np.exp(np.eye(k)[y] + rng.normal(size=(n, k)))
    return y, raw / raw.sum(axis=1, keepdims=True)


def numbers(n, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    return y, 0.8 * y + rng.normal(scale=0.5, size=n) + 0.1


THEIRS = {
    "binary": {
        "auc": sk.roc_auc_score,
        "average_precision": sk.average_precision_score,
        "log_loss": sk.log_loss,
        "brier": sk.brier_score_loss,
        "accuracy": lambda y, s: sk.accuracy_score(y, s >= 0.5),
        "precision": lambda y, s: sk.precision_score(y, s >= 0.5),
        "recall": lambda y, s: sk.recall_score(y, s >= 0.5),
        "specificity": lambda y, s: sk.recall_score(y, s >= 0.5, pos_label=0),
        "false_positive_rate": lambda y, s: 1 - sk.recall_score(y, s >= 0.5, pos_label=0),
        "f1": lambda y, s: sk.f1_score(y, s >= 0.5),
        "selection_rate": lambda _, s: (s >= 0.5).mean(),
        "balanced_accuracy": lambda y, s: sk.balanced_accuracy_score(y, s >= 0.5),
    },
    "several": {
        "accuracy": lambda y, s: sk.accuracy_score(y, s.argmax(axis=1)),
        "log_loss": sk.log_loss,
        "brier": lambda y, s: ((s - np.eye(3)[y]) ** 2).sum(axis=1).mean(),
        "balanced_accuracy": lambda y, s: sk.balanced_accuracy_score(y, s.argmax(axis=1)),
        "macro_f1": lambda y, s: sk.f1_score(y, s.argmax(axis=1), average="macro"),
    },
    "numbers": {
        "mse": sk.mean_squared_error,
        "mae": sk.mean_absolute_error,
        "rmse": sk.root_mean_squared_error,
        "r2": sk.r2_score,
        "bias": lambda y, s: (s - y).mean(),
    },
}
MADE = {
    "binary": (binary, "classification", 2),
    "several": (several, "classification", 3),
    "numbers": (numbers, "regression", 2),
}


@pytest.mark.parametrize("kind", THEIRS)
def test_every_figure_is_that_of_scikit_learn(kind):
    make, task, k = MADE[kind]
    y, s = make(700)
    figures = figures_of(task, k)
    assert set(figures) == set(THEIRS[kind])
    for name, figure in figures.items():
        found = figure.estimate(Sample.of(y, s))
        assert found.value == pytest.approx(THEIRS[kind][name](y, s)), name
        assert found.influence.mean() == pytest.approx(0, abs=1e-9), name
        assert found.variance == pytest.approx(found.influence.var(ddof=1) / 700, rel=1e-6), name


@pytest.mark.parametrize("kind", THEIRS)
def test_intervals_cover_the_truth_as_often_as_they_say(kind):
    make, task, k = MADE[kind]
    whole = Sample.of(*make(400_000, seed=99))
    figures = figures_of(task, k)
    truth = {name: figure.estimate(whole).value for name, figure in figures.items()}
    covered = dict.fromkeys(figures, 0)
    for seed in range(400):
        sample = Sample.of(*make(500, seed))
        for name, figure in figures.items():
            metric = figure.estimate(sample).metric()
            covered[name] += metric.low <= truth[name] <= metric.high
    assert {name: n for name, n in covered.items() if not 0.915 <= n / 400 <= 0.985} == {}


def test_costs_weigh_each_kind_of_mistake():
    y, s = np.array([0, 0, 1, 1]), np.array([0.9, 0.1, 0.9, 0.1])
    figure = ratio_figure(cost([[0, 1], [5, 0]], 2), greater_is_better=False)
    assert figure.estimate(Sample.of(y, s)).value == pytest.approx(6 / 4)


@pytest.mark.parametrize("costs", [[[0, 1]], [[0, 1], [float("nan"), 0]]])
def test_a_table_of_costs_has_a_number_for_each_cell(costs):
    with pytest.raises(ParameterError, match="2 by 2"):
        cost(costs, 2)


def test_a_sample_without_positives_has_no_recall():
    figure = figure_of("recall", "classification")
    assert figure.estimate(Sample.of([0, 0], [0.1, 0.9])) is None


def test_a_constant_truth_has_no_r2():
    assert figure_of("r2", "regression").estimate(Sample.of([1, 1], [0.0, 1.0])) is None


@pytest.mark.parametrize("truth", [[0, 2], [0, 0.5], [-1, 1]])
def test_a_label_that_the_model_does_not_know_is_named(truth):
    with pytest.raises(DataError, match="Expected classes 0 to 1"):
        _ = Sample.of(truth, [0.1, 0.9]).label


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [("auc", "regression", "'mse'"), ("auc", "ranking", "'classification' or 'regression'")],
)
def test_an_unknown_figure_is_named(name, task, said):
    with pytest.raises(ParameterError, match=said):
        figure_of(name, task)


def test_an_area_with_its_interval_in_one_call():
    y, s = binary(500)
    metric = auc_with_interval(y, s)
    assert metric.low < metric.value < metric.high
