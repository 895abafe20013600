from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import median_absolute_error, roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.records import EvaluationReport, EvaluationSpec
from airflow_mlops_provider.steps.evaluate.judge import calibration_error, evaluate_model
from airflow_mlops_provider.steps.evaluate.predictions import read_predictions
from airflow_mlops_provider.steps.metrics.figures import Sample
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
from tests.training import train


def closeness(truth, score):
    """A metric of somebody's own."""
    return -median_absolute_error(truth, score)


@pytest.fixture
def model_uri(run, dataset):
    return train(
        dataset,
        DecisionTreeClassifier,
        run=run,
        features=["hour"],
        target="late",
        params={"max_depth": 4},
    ).model_uri


def evaluate(model_uri, dataset, run, tmp_path, **changes):
    spec = EvaluationSpec(**{"dataset": dataset, "target": "late", **changes})
    return evaluate_model(model_uri, spec, workspace=str(tmp_path), run=run)


def widened(dataset, tmp_path, **columns):
    frame = read_dataset(dataset).assign(**columns)
    return write_dataset(frame, "widened", str(tmp_path), "test")


def test_a_classifier_is_measured_overall_and_by_slice(model_uri, holdout, run, tmp_path):
    report = evaluate(model_uri, holdout, run, tmp_path, slices=["origin"])
    assert EvaluationReport.from_xcom(report.to_xcom()) == report
    predictions = pd.read_parquet(report.predictions_uri)
    expected = roc_auc_score(predictions["target"], predictions["score"])
    assert report.metrics["auc"].value == pytest.approx(expected)
    assert {(cut.column, cut.value) for cut in report.slices} == {
        ("origin", "EWR"),
        ("origin", "JFK"),
    }
    assert sum(cut.n for cut in report.slices) == 1_000
    assert np.sum(report.confusion) == 1_000
    assert 0 < report.calibration_error < 0.2
    assert report.features == ["hour"]
    assert report.cost.latency_p50_ms > 0
    assert report.cost.size_mb > 0


def test_figures_pictures_and_the_page_lie_with_the_run(client, model_uri, holdout, run, tmp_path):
    report = evaluate(model_uri, holdout, run, tmp_path, importance_repeats=2)
    logged = client.get_run(run.run_id).data.metrics
    assert logged["auc"] == report.metrics["auc"].value
    plots = {file.path for file in client.list_artifacts(run.run_id, "plots")}
    names = ("roc", "precision_recall", "calibration", "importance")
    assert plots == {f"plots/{name}.png" for name in names}
    page = client.download_artifacts(run.run_id, "evaluation.html", str(tmp_path))
    assert report.model_uri in Path(page).read_text()


def test_judging_twice_finds_the_same(model_uri, holdout, run, tmp_path):
    first = evaluate(model_uri, holdout, run, tmp_path)
    again = evaluate(model_uri, holdout, run, tmp_path)
    assert replace(again, cost=None) == replace(first, cost=None)


def test_predictions_are_read_back_as_they_were(model_uri, holdout, run, tmp_path):
    report = evaluate(model_uri, holdout, run, tmp_path, threshold=0.3)
    sample = read_predictions(report)
    assert sample.threshold == 0.3
    assert roc_auc_score(sample.truth, sample.score) == pytest.approx(report.metrics["auc"].value)
    assert sample.decided.mean() == pytest.approx(report.metrics["selection_rate"].value)


def test_small_slices_are_left_out(model_uri, holdout, run, tmp_path):
    report = evaluate(model_uri, holdout, run, tmp_path, slices=["origin"], min_slice_rows=900)
    assert report.slices == []


def test_a_regression_has_its_own_figures(client, model_uri, holdout, run, tmp_path):
    report = evaluate(model_uri, holdout, run, tmp_path, task="regression")
    assert set(report.metrics) == {"mse", "mae", "rmse", "r2", "bias"}
    assert report.confusion is None
    assert [file.path for file in client.list_artifacts(run.run_id, "plots")] == [
        "plots/residuals.png"
    ]


def test_a_model_of_three_classes_is_measured(holdout, run, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=600), "y": rng.normal(size=600)})
    frame["kind"] = pd.cut(frame["x"], [-np.inf, -0.5, 0.5, np.inf], labels=False)
    dataset = write_dataset(frame, "kinds", str(tmp_path), "test")
    model = train(dataset, LogisticRegression, run=run, features=["x", "y"], target="kind")
    report = evaluate(model.model_uri, dataset, run, tmp_path, target="kind")
    assert report.metrics["accuracy"].value > 0.8
    assert np.shape(report.confusion) == (3, 3)
    assert report.threshold is None
    assert read_predictions(report).score.shape == (600, 3)


def test_costs_choose_the_threshold_and_are_a_metric(model_uri, holdout, run, tmp_path):
    dear = {"costs": [[0, 1], [9, 0]], "threshold": "cost"}
    careful = evaluate(model_uri, holdout, run, tmp_path, **dear)
    plain = evaluate(model_uri, holdout, run, tmp_path, costs=[[0, 1], [9, 0]])
    assert careful.threshold < plain.threshold
    assert careful.metrics["cost"].value < plain.metrics["cost"].value
    assert careful.greater_is_better["cost"] is False


def test_a_golden_set_is_judged_apart(model_uri, holdout, run, tmp_path):
    rows = read_dataset(holdout).query("late == 1").head(40)
    golden = write_dataset(rows, "golden", str(tmp_path), "test")
    report = evaluate(model_uri, holdout, run, tmp_path, golden=golden)
    assert report.golden["recall"].n == 40
    assert "auc" not in report.golden  # of one class only


def test_a_metric_of_ones_own_has_an_interval(model_uri, holdout, run, tmp_path):
    path = f"{closeness.__module__}.closeness"
    report = evaluate(model_uri, holdout, run, tmp_path, custom_metrics={"closeness": path})
    metric = report.metrics["closeness"]
    assert metric.low <= metric.value <= metric.high
    assert report.greater_is_better["closeness"]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"target": "early"}, DataError, "'early'"),
        ({"slices": ["gate"]}, DataError, "'gate'"),
        ({"fairness": ["gate"]}, DataError, "'gate'"),
        ({"task": "regression", "slice_metrics": ["auc"]}, ParameterError, "'auc'"),
        ({"threshold": 7}, ParameterError, "threshold"),
        ({"costs": [[1, 2, 3]]}, ParameterError, "2 by 2"),
        ({"custom_metrics": {"mine": "nowhere.at_all"}}, ParameterError, "nowhere"),
    ],
)
def test_bad_input_is_named_and_nothing_is_kept(
    model_uri, holdout, run, tmp_path, changes, error, said
):
    with pytest.raises(error, match=said):
        evaluate(model_uri, holdout, run, tmp_path, **changes)


def test_a_dataset_without_the_models_columns_is_refused(model_uri, holdout, run, tmp_path):
    frame = read_dataset(holdout).drop(columns="hour")
    narrow = write_dataset(frame, "narrow", str(tmp_path), "test")
    with pytest.raises(ModelError, match="hour"):
        evaluate(model_uri, narrow, run, tmp_path)


def test_a_dataset_without_labels_is_refused(model_uri, holdout, run, tmp_path):
    unlabelled = widened(holdout, tmp_path, late=np.nan)
    with pytest.raises(DataError, match="'late'"):
        evaluate(model_uri, unlabelled, run, tmp_path)


def test_a_window_of_one_class_is_refused(model_uri, holdout, run, tmp_path):
    with pytest.raises(DataError, match="both classes"):
        evaluate(model_uri, widened(holdout, tmp_path, late=1.0), run, tmp_path)


def test_a_label_unseen_in_training_is_refused(model_uri, holdout, run, tmp_path):
    with pytest.raises(DataError, match=r"classes 0 to 1 as labels, got \[2\.0\]"):
        evaluate(model_uri, widened(holdout, tmp_path, late=2.0), run, tmp_path)


def test_calibration_does_not_hang_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    score = rng.integers(0, 20, 2_000) / 20
    truth = (rng.random(2_000) < score**2).astype(float)
    found = calibration_error(Sample.of(truth, score))
    shuffled = rng.permutation(2_000)
    assert calibration_error(Sample.of(truth[shuffled], score[shuffled])) == pytest.approx(found)
    assert found == pytest.approx(np.abs(score - score**2).mean(), abs=0.02)
    assert calibration_error(Sample.of(truth, truth)) == 0
