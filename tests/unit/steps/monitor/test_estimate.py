from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.records import Metric
from airflow_mlops_provider.steps.monitor.estimate import (
    calibrated,
    estimated_performance,
    expected_auc,
    judge_estimate,
    reference_scores,
)
from airflow_mlops_provider.steps.monitor.model import monitor_model
from airflow_mlops_provider.steps.monitor.performance import Bar
from tests.monitored import finding_of, judged_scores, log_table, stored

BAR = Bar("auc", 0.9, 0.02)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.integers(1, 9)), min_size=1))
def test_the_expected_auc_is_that_of_rows_weighted_by_their_chance(rows):
    scores = np.array([score for score, _ in rows])
    chance = np.array([tenths / 10 for _, tenths in rows])
    truth = np.repeat([1, 0], len(rows))
    weights = np.concatenate([chance, 1 - chance])
    expected = roc_auc_score(truth, np.tile(scores, 2), sample_weight=weights)
    assert expected_auc(scores, chance).value == pytest.approx(expected)


def test_estimates_are_what_is_found_once_labels_come():
    scores, labels = judged_scores(100_000)
    found = estimated_performance(scores, scores)
    for name, figure in [
        ("auc", roc_auc_score),
        ("brier", brier_score_loss),
        ("log_loss", log_loss),
    ]:
        assert found[name].value == pytest.approx(figure(labels, scores), abs=0.005)


def test_the_interval_holds_what_is_found_as_often_as_it_says():
    held = 0
    for seed in range(200):
        scores, labels = judged_scores(1_000, seed)
        auc = estimated_performance(scores, scores)["auc"]
        held += auc.low <= roc_auc_score(labels, scores) <= auc.high
    assert held / 200 >= 0.93


def test_scores_that_are_too_sure_are_calibrated_on_the_reference():
    scores, labels = judged_scores(40_000)
    sure = scores**3 / (scores**3 + (1 - scores) ** 3)
    chance = calibrated(sure[20_000:], (sure[:20_000], labels[:20_000]))
    truth = roc_auc_score(labels[20_000:], sure[20_000:])
    right, wrong = (
        estimated_performance(sure[20_000:], each)["auc"].value for each in (chance, sure[20_000:])
    )
    assert right == pytest.approx(truth, abs=0.01)
    assert wrong > truth + 0.03


def test_covariate_shift_is_seen_and_concept_drift_is_not():
    scores, labels = judged_scores(50_000)
    reference = scores, labels
    narrow = scores[(scores > 0.3) & (scores < 0.7)]
    shifted = estimated_performance(narrow, calibrated(narrow, reference))["auc"].value
    rng = np.random.default_rng(1)
    truth = (rng.uniform(size=len(narrow)) < narrow).astype(int)
    assert shifted == pytest.approx(roc_auc_score(truth, narrow), abs=0.02)
    noise = rng.integers(0, 2, len(scores))
    still = estimated_performance(scores, calibrated(scores, reference))["auc"].value
    assert still > roc_auc_score(noise, scores) + 0.3


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_without_two_classes_nothing_is_estimated(chance):
    assert estimated_performance(np.array([0.2, 0.8]), np.full(2, chance)) == {}


@pytest.mark.parametrize(
    ("high", "n", "n_reference", "status"),
    [
        (0.87, 1000, 500, "raised"),
        (0.87, 1000, None, "warning"),  # scores that nobody calibrated raise nothing
        (0.87, 499, 500, "unknown"),
        (0.89, 1000, 500, "ok"),
    ],
)
def test_only_a_calibrated_estimate_wholly_below_the_floor_is_raised(high, n, n_reference, status):
    metric = Metric(value=high - 0.01, low=high - 0.02, high=high, n=n)
    found = judge_estimate({"auc": metric}, n, n_reference, BAR, 500)
    assert found.status == status
    assert "Estimated, not measured" in found.reason
    assert "assumes no concept drift" in found.reason


def test_a_report_estimates_by_the_evaluation_it_is_given(tmp_path):
    scores, labels = judged_scores(2_000)
    evaluated = tmp_path / "evaluated.parquet"
    pd.DataFrame({"score": scores, "target": labels}).to_parquet(evaluated)
    batch = stored(tmp_path, log_table(600, score=scores[:600]))
    options = {"endpoint": "flights", "baseline": 0.99, "reference_predictions": str(evaluated)}
    report = monitor_model(batch, **options)
    assert report.signals == ["estimated_performance"]
    assert "2000 reference predictions" in finding_of(report, "estimated_performance").reason
    assert finding_of(report, "prediction_drift").status == "ok"
    moved = log_table(600, score=scores[:600] ** 4)
    other = monitor_model(stored(tmp_path, moved), **options | {"baseline": None})
    assert other.signals == ["prediction_drift"]
    assert finding_of(other, "prediction_drift").value == other.prediction_drift.psi
    unwatched = monitor_model(
        stored(tmp_path, moved), **options | {"baseline": None}, thresholds={"score_psi": None}
    )
    assert unwatched.signals == []


def test_scores_that_are_no_probabilities_are_estimated_only_after_calibration(tmp_path):
    scores, labels = judged_scores(2_000)
    odds = np.log(scores / (1 - scores))
    batch = stored(tmp_path, log_table(2_000, score=odds))
    assert monitor_model(batch, endpoint="flights").estimated_performance == {}
    evaluated = tmp_path / "evaluated.parquet"
    pd.DataFrame({"score": odds, "target": labels}).to_parquet(evaluated)
    report = monitor_model(batch, endpoint="flights", reference_predictions=str(evaluated))
    assert [*report.estimated_performance] == ["auc"]


@pytest.mark.parametrize(
    ("columns", "error"),
    [({"score": [0.5], "late": [1]}, r"no column \['target'\]"), (None, "is gone")],
)
def test_an_evaluation_that_is_none_is_named(tmp_path, columns, error):
    path = tmp_path / "evaluated.parquet"
    if columns:
        pd.DataFrame(columns).to_parquet(path)
    with pytest.raises(DataError, match=error):
        reference_scores(str(path))


def test_an_evaluation_of_several_classes_is_not_used(tmp_path):
    path = tmp_path / "evaluated.parquet"
    pd.DataFrame({"score_0": [0.5], "target": [1]}).to_parquet(path)
    assert reference_scores(str(path)) is None


def test_a_bar_for_errors_is_a_share_of_the_baseline():
    metric = Metric(value=11.0, low=10.5, high=11.5, n=9)
    bar = Bar("rmse", 10.0, 0.04)
    assert bar.limit == pytest.approx(10.4)
    assert bar.is_missed(metric)
    assert not replace(bar, max_drop=0.06).is_missed(metric)
    assert not replace(bar, baseline=None).is_missed(metric)
