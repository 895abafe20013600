from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.metrics.influence import (
    UNIT,
    Estimate,
    area_under_roc,
    average_precision,
    checked,
    estimate,
    mean_of,
)


def scored(n: int, seed: int, noise: float = 1.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return y == 1, np.round(y + rng.normal(scale=noise, size=n), 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 300), st.integers(0, 10_000))
def test_areas_are_those_of_scikit_learn_ties_and_all(n, seed):
    positive, score = scored(n, seed)
    if 1 < positive.sum() < n - 1:
        for ours, theirs in (
            (area_under_roc, roc_auc_score),
            (average_precision, average_precision_score),
        ):
            found = ours(positive, score)
            metric = found.metric()
            assert found.value == pytest.approx(theirs(positive, score))
            assert found.influence.mean() == pytest.approx(0, abs=1e-12)
            assert 0 <= metric.low <= metric.value <= metric.high <= 1


def test_the_area_of_nine_rows_by_hand():
    # Four positives and five negatives with one inversion: 19 of 20 pairs are in order.
    positive = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0]) == 1
    found = area_under_roc(positive, np.array([9.0, 8, 7, 3, 4, 2, 1, 0, -1]))
    assert found.value == pytest.approx(0.95)


def test_the_variance_of_an_area_is_delongs():
    positive, score = scored(300, 1)
    higher = score[positive][:, None] > score[~positive][None, :]
    pairs = higher + 0.5 * (score[positive][:, None] == score[~positive][None, :])
    by_positive, by_negative = pairs.mean(axis=1), pairs.mean(axis=0)
    delong = by_positive.var(ddof=1) / positive.sum() + by_negative.var(ddof=1) / (~positive).sum()
    assert area_under_roc(positive, score).variance == pytest.approx(delong, rel=0.01)


@pytest.mark.parametrize("ours", [area_under_roc, average_precision])
def test_removing_a_row_moves_a_figure_by_its_influence(ours):
    positive, score = scored(2_000, 5)
    whole = ours(positive, score)
    for row in (0, 7, 1_000):
        rest = np.delete(np.arange(2_000), row)
        moved = whole.value - ours(positive[rest], score[rest]).value
        assert moved == pytest.approx(whole.influence[row] / 2_000, abs=2e-6)


def test_pairing_makes_the_interval_narrower_than_one_alone():
    positive, score = scored(500, 4)
    other = score + np.random.default_rng(0).normal(scale=0.1, size=500)
    first = area_under_roc(positive, score)
    paired = first.minus(area_under_roc(positive, other)).metric()
    alone = first.metric()
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_a_model_does_not_differ_from_itself():
    found = area_under_roc(*scored(500, 3))
    metric = found.minus(found).metric()
    assert (metric.value, metric.low, metric.high) == (0, 0, 0)


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.8389, 1.0), (0.0, 0.0, 0.1611)])
def test_a_share_of_all_or_none_still_has_an_interval(value, low, high):
    metric = Estimate(value, 0.0, 20, UNIT).metric()
    assert (metric.low, metric.high) == pytest.approx((low, high), abs=1e-4)


def test_one_row_has_no_interval():
    metric = mean_of(np.array([2.0])).metric()
    assert (metric.value, metric.low, metric.high, metric.n) == (2.0, None, None, 1)


def test_one_positive_gives_an_area_without_an_interval():
    metric = area_under_roc(np.array([1, 0, 0, 0]) == 1, np.arange(4.0)).metric()
    assert (metric.value, metric.low) == (0.0, None)


def test_an_interval_keeps_to_what_is_possible():
    metric = estimate(0.5, np.array([-30.0, 30.0]), bounds=(0.0, np.inf)).metric()
    assert metric.low == 0.0


def test_without_influences_there_is_no_paired_difference():
    with pytest.raises(ValueError, match="influence"):
        Estimate(0.5, 0.1, 5).minus(Estimate(0.4, 0.1, 5))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: area_under_roc(np.array([True, True]), np.ones(2)), "both classes"),
        (lambda: average_precision(np.array([False, False]), np.ones(2)), "needs a positive"),
        (lambda: mean_of(np.array([])), "at least one row"),
        (lambda: checked([0, 1], [0.1]), "2 labels, got 1"),
        (lambda: checked([0, 1], [0.1, float("nan")]), "finite"),
    ],
)
def test_what_cannot_be_computed_is_said(call, said):
    with pytest.raises(DataError, match=said):
        call()
