from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from airflow_mlops_provider.exceptions import DataError, ModelError
from airflow_mlops_provider.records import EvaluationReport
from airflow_mlops_provider.steps.evaluate import evaluate_model, load_model, predict_score
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
from tests.training import train


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
    arguments = {"target": "late", "workspace": str(tmp_path), "run": run}
    return evaluate_model(model_uri, dataset, **{**arguments, **changes})


def test_a_classifier_is_measured_overall_and_by_slice(model_uri, holdout, run, tmp_path):
    report = evaluate(model_uri, holdout, run, tmp_path, slices=["origin"])
    assert EvaluationReport.from_xcom(report.to_xcom()) == report
    predictions = pd.read_parquet(report.predictions_uri)
    expected = roc_auc_score(predictions["target"], predictions["score"])
    assert report.metrics["auc"].value == pytest.approx(expected)
    assert set(report.metrics) == {"auc", "log_loss", "brier"}
    assert {(cut.column, cut.value) for cut in report.slices} == {
        ("origin", "EWR"),
        ("origin", "JFK"),
    }
    assert sum(cut.n for cut in report.slices) == 1_000


def test_judging_twice_stores_the_same_predictions(model_uri, holdout, run, tmp_path):
    first = evaluate(model_uri, holdout, run, tmp_path)
    assert evaluate(model_uri, holdout, run, tmp_path) == first


def test_small_slices_are_left_out(model_uri, holdout, run, tmp_path):
    report = evaluate(model_uri, holdout, run, tmp_path, slices=["origin"], min_slice_rows=900)
    assert report.slices == []


def test_a_regression_has_its_own_figures(model_uri, holdout, run, tmp_path):
    report = evaluate(model_uri, holdout, run, tmp_path, task="regression")
    assert set(report.metrics) == {"mse", "mae"}


@pytest.mark.parametrize(
    ("changes", "said"), [({"target": "early"}, "'early'"), ({"slices": ["gate"]}, "'gate'")]
)
def test_missing_columns_are_named(model_uri, holdout, run, tmp_path, changes, said):
    with pytest.raises(DataError, match=said):
        evaluate(model_uri, holdout, run, tmp_path, **changes)


def test_a_dataset_without_the_models_columns_is_refused(model_uri, holdout, run, tmp_path):
    frame = read_dataset(holdout).drop(columns="hour")
    narrow = write_dataset(frame, "narrow", str(tmp_path), "test")
    with pytest.raises(DataError, match="hour"):
        evaluate(model_uri, narrow, run, tmp_path)


def test_a_dataset_without_labels_is_refused(model_uri, holdout, run, tmp_path):
    frame = read_dataset(holdout).assign(late=np.nan)
    unlabelled = write_dataset(frame, "unlabelled", str(tmp_path), "test")
    with pytest.raises(DataError, match="'late'"):
        evaluate(model_uri, unlabelled, run, tmp_path)


@pytest.mark.parametrize("uri", ["models:/nobody@champion", "models:/nobody/1", "models:/m-0"])
def test_an_unknown_model_is_named(client, uri):
    with pytest.raises(ModelError, match=uri):
        load_model(uri)


def test_a_model_with_too_few_answers_is_refused(model_uri, holdout):
    class Short:
        metadata = load_model(model_uri).metadata

        def predict(self, frame):
            return np.zeros(3)

    with pytest.raises(ModelError, match="1000 predictions"):
        predict_score(Short(), read_dataset(holdout))
