"""Slices, fairness, thresholds, importance and the page, without a model in MLflow."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.evaluate.fairness import fairness_of
from airflow_mlops_provider.steps.evaluate.slices import MAX_SLICES, cut_rows, slice_metrics
from airflow_mlops_provider.steps.evaluate.threshold import choose_threshold
from airflow_mlops_provider.steps.metrics.figures import BINARY, Sample

RNG = np.random.default_rng(0)
N = 2_000
FRAME = pd.DataFrame(
    {
        "origin": RNG.choice(["EWR", "JFK", "LGA"], N),
        "hour": RNG.integers(0, 24, N),
        "distance": RNG.gamma(2, 500, N),
    }
)
TRUTH = RNG.integers(0, 2, N).astype(float)
SCORE = 1 / (1 + np.exp(0.5 - TRUTH - RNG.normal(size=N) + (FRAME["origin"] == "JFK")))
SAMPLE = Sample.of(TRUTH, SCORE)


def cut(declared, **changes):
    options = {"min_rows": 1, "confidence": 0.95, **changes}
    return slice_metrics(FRAME, SAMPLE, [declared], {"recall": BINARY["recall"]}, **options)


@pytest.mark.parametrize(
    ("declared", "column", "rows"),
    [
        ("origin", "origin", N),
        ({"column": "distance", "bins": 4}, "distance", N),
        ({"column": "hour", "bins": [0, 6, 12, 23]}, "hour", N),
        ({"column": "hour", "bins": [0, 6]}, "hour", int((FRAME["hour"] <= 6).sum())),
        (
            {"name": "short nights", "where": "distance < 500 and hour > 20"},
            "where",
            int(((FRAME["distance"] < 500) & (FRAME["hour"] > 20)).sum()),
        ),
    ],
)
def test_slices_by_column_bin_and_expression(declared, column, rows):
    found = cut(declared)
    assert {each.column for each in found} == {column}
    assert sum(each.n for each in found) == rows
    assert [each.score for each in found] == sorted(each.score for each in found)
    assert all(each.low < each.score < each.high for each in found)


def test_losses_are_worst_where_they_are_largest():
    figures = {"log_loss": BINARY["log_loss"]}
    found = slice_metrics(FRAME, SAMPLE, ["origin"], figures, min_rows=1, confidence=0.95)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_at_most_so_many_slices_are_kept():
    frame = pd.DataFrame({"id": np.arange(N) // 4})
    figures = {"accuracy": BINARY["accuracy"]}
    found = slice_metrics(frame, SAMPLE, ["id"], figures, min_rows=1, confidence=0.95)
    assert len(found) == MAX_SLICES


@pytest.mark.parametrize(
    ("declared", "error", "said"),
    [
        ("gate", DataError, "'gate'"),
        ({"bins": 3}, ParameterError, "'where'"),
        ({"column": "origin", "bins": 3}, ParameterError, r"slices\['origin'\]\['bins'\]"),
        ({"where": "altitude > 3"}, ParameterError, "altitude"),
        ({"where": "hour.sum() > 3"}, ParameterError, "not a value for each row"),
    ],
)
def test_a_slice_that_cannot_be_cut_is_named(declared, error, said):
    with pytest.raises(error, match=said):
        cut_rows(FRAME, declared)


def test_missing_values_are_in_no_slice():
    frame = FRAME.assign(origin=FRAME["origin"].where(FRAME["origin"] != "LGA"))
    found = cut_rows(frame, "origin")
    assert found.names == ["EWR", "JFK"]
    assert (found.codes == -1).sum() == (FRAME["origin"] == "LGA").sum()


def test_groups_are_compared_by_hand():
    (found,) = fairness_of(FRAME, SAMPLE, ["origin"], 1)
    decided = SCORE >= 0.5
    chosen = decided.groupby(FRAME["origin"]).mean()
    assert found.demographic_parity_difference == pytest.approx(chosen.max() - chosen.min())
    assert found.demographic_parity_ratio == pytest.approx(chosen.min() / chosen.max())
    hits = decided[TRUTH == 1].groupby(FRAME["origin"]).mean()
    alarms = decided[TRUTH == 0].groupby(FRAME["origin"]).mean()
    spread = max(hits.max() - hits.min(), alarms.max() - alarms.min())
    assert found.equalized_odds_difference == pytest.approx(spread)
    assert found.groups["JFK"]["recall"] == pytest.approx(hits["JFK"])


def test_one_group_alone_cannot_be_treated_unfairly():
    assert fairness_of(FRAME.assign(origin="EWR"), SAMPLE, ["origin"], 1) == []


def test_a_group_of_one_class_has_no_equalized_odds():
    frame = pd.DataFrame({"group": ["a", "a", "b", "b"]})
    (found,) = fairness_of(frame, Sample.of([1, 0, 1, 1], [0.9, 0.1, 0.9, 0.2]), ["group"], 1)
    assert found.equalized_odds_difference is None


def test_the_best_f1_is_found_by_trying_all():
    threshold = choose_threshold("f1", TRUTH == 1, SCORE.to_numpy())
    best = max(f1_score(TRUTH, level <= SCORE) for level in np.unique(SCORE))
    assert f1_score(TRUTH, threshold <= SCORE) == pytest.approx(best)


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_a_recall_is_kept_by_the_highest_threshold(share):
    threshold = choose_threshold({"recall": share}, TRUTH == 1, SCORE.to_numpy())
    positives = np.sort(SCORE[TRUTH == 1])
    assert (positives >= threshold).mean() >= share
    above = positives[positives > threshold]
    assert len(above) / len(positives) < share


@pytest.mark.parametrize("rule", [-0.1, 2, "best", "cost", {"precision": 0.5}, {"recall": 0}])
def test_a_threshold_that_cannot_be_chosen_is_named(rule):
    with pytest.raises(ParameterError, match="threshold"):
        choose_threshold(rule, TRUTH == 1, SCORE.to_numpy())
