from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.metrics import (
    auc_difference,
    auc_with_interval,
    log_loss_rows,
    mean_with_interval,
    squared_error_rows,
)


def scored(n: int, seed: int, noise: float = 1.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return y, np.round(y + rng.normal(scale=noise, size=n), 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 300), st.integers(0, 10_000))
def test_auc_is_that_of_scikit_learn_ties_and_all(n, seed):
    y, score = scored(n, seed)
    if 0 < y.sum() < n:
        metric = auc_with_interval(y, score)
        assert metric.value == pytest.approx(roc_auc_score(y, score))
        assert 0 <= metric.low <= metric.value <= metric.high <= 1


def test_a_published_example_of_delong():
    # Four positives and five negatives with one inversion: 19 of 20 pairs are in order.
    metric = auc_with_interval([1, 1, 1, 1, 0, 0, 0, 0, 0], [9, 8, 7, 3, 4, 2, 1, 0, -1])
    assert metric.value == pytest.approx(0.95)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    truth = auc_with_interval(*scored(200_000, 0, 2.0)).value
    metrics = [auc_with_interval(*scored(400, seed, 2.0)) for seed in range(1, 301)]
    covered = np.mean([metric.low <= truth <= metric.high for metric in metrics])
    assert 0.91 <= covered <= 0.99


def test_the_difference_of_a_model_with_itself_is_nothing():
    y, score = scored(500, 3)
    metric = auc_difference(y, score, score)
    assert (metric.value, metric.low, metric.high) == (0, 0, 0)


def test_pairing_makes_the_interval_narrower_than_two_of_them():
    y, score = scored(500, 4)
    other = score + np.random.default_rng(0).normal(scale=0.1, size=500)
    paired = auc_difference(y, score, other)
    alone = auc_with_interval(y, score)
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_row_losses_average_to_those_of_scikit_learn():
    y, p = np.array([0, 1, 1, 0]), np.array([0.1, 0.8, 0.4, 0.0])
    assert log_loss_rows(y, p).mean() == pytest.approx(log_loss(y, p))
    assert squared_error_rows(y, p).mean() == pytest.approx(brier_score_loss(y, p))


def test_one_row_has_no_interval():
    metric = mean_with_interval([2.0])
    assert (metric.value, metric.low, metric.high, metric.n) == (2.0, None, None, 1)


@pytest.mark.parametrize(
    ("target", "score", "said"),
    [
        ([1, 1], [0.1, 0.2], "both classes"),
        ([0, 1], [0.1], "2 labels, got 1"),
        ([0, 1], [0.1, float("nan")], "finite"),
    ],
)
def test_what_has_no_auc_is_said(target, score, said):
    with pytest.raises(DataError, match=said):
        auc_with_interval(target, score)
