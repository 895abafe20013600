from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.records import EarlyStopping
from airflow_mlops_provider.steps.fit import (
    TrainingRows,
    checked_weights,
    fit_model,
    iterations,
    last_step,
)


class Recorder(ClassifierMixin, BaseEstimator):
    """Remembers what it was given."""

    def __init__(self, n_iter_no_change=None, early_stopping="auto"):
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping

    def fit(self, x, y, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None):  # noqa: N803 - scikit-learn's name
        self.seen_ = [x, y, sample_weight, X_val, y_val, sample_weight_val]
        self.classes_ = np.unique(y)
        return self


def rows_of(labels, weights=None):
    target = pd.Series(labels, name="late", index=range(5, 5 + len(labels)))
    features = pd.DataFrame({"hour": np.arange(len(labels), dtype=float)}, index=target.index)
    return TrainingRows(features, target, None if weights is None else np.array(weights))


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize(
    ("class_weight", "weights", "expected"),
    [
        (None, None, None),
        (None, [1.0, 2.0, 0.0, 1.0], [1, 2, 0, 1]),
        ({"1": 3}, None, [1, 1, 1, 3]),
        ({"0": 2.0, "1.0": 3.0}, [1.0, 2.0, 0.0, 1.0], [2, 4, 0, 3]),
        ("balanced", None, [2 / 3, 2 / 3, 2 / 3, 2]),
    ],
)
def test_weights_reach_the_last_step(pipeline, class_weight, weights, expected):
    model = Recorder()
    outer = make_pipeline(StandardScaler(), make_pipeline(model)) if pipeline else model
    fit_model(outer, rows_of([0, 0, 0, 1], weights), class_weight=class_weight)
    seen = model.seen_[2]
    assert seen is None if expected is None else np.allclose(seen, expected)


@given(
    labels=st.lists(st.sampled_from([0, 1, 2]), min_size=2).filter(lambda each: len(set(each)) > 1)
)
def test_balanced_classes_weigh_the_same(labels):
    model = Recorder()
    fit_model(model, rows_of(labels), class_weight="balanced")
    sums = pd.Series(model.seen_[2]).groupby(np.array(labels)).sum()
    assert np.allclose(sums, len(labels) / len(sums))


@pytest.mark.parametrize("balanced", ["balanced", {"0": 1, "1": 1}])
def test_class_weights_as_row_weights_are_what_scikit_learn_means_by_them(balanced):
    rng = np.random.default_rng(0)
    features = pd.DataFrame({"hour": rng.normal(size=300)})
    labels = pd.Series((features["hour"] + rng.normal(size=300) > 1).astype(int), name="late")
    ours, theirs = LogisticRegression(), LogisticRegression(class_weight="balanced")
    fit_model(ours, TrainingRows(features, labels), class_weight=balanced)
    theirs.fit(features, labels)
    assert np.allclose(ours.coef_, theirs.coef_, atol=1e-4) == (balanced == "balanced")


@pytest.mark.parametrize(
    ("model", "class_weight", "weights", "error", "said"),
    [
        (KNeighborsClassifier(), "balanced", None, ParameterError, "KNeighborsClassifier does not"),
        (KNeighborsClassifier(), None, [1.0] * 4, ParameterError, "weight_column and class_weight"),
        (LinearRegression(), "balanced", None, ParameterError, "None for a regressor"),
        (Recorder(), "even", None, ParameterError, "'balanced' or a dict"),
        (Recorder(), {"2": 1.0}, None, ParameterError, r"weights of classes \[0, 1\]"),
        (Recorder(), {"late": 1.0}, None, ParameterError, r"weights of classes \[0, 1\]"),
        (Recorder(), {"0": -1.0}, None, DataError, "class_weight.*got .-1.0.*3 of 4 rows"),
        (Recorder(), {"0": 0, "1": 0}, None, DataError, "zero in all rows"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(model, class_weight, weights, error, said):
    with pytest.raises(error, match=said):
        fit_model(model, rows_of([0, 0, 0, 1], weights), class_weight=class_weight)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0, -1.0], r"got \[-1.0\] \(1 of 2 rows\)"),
        ([1.0, np.nan], "nan"),
        ([1.0, np.inf], "inf"),
        ([0.0, 0.0], "zero in all rows"),
        (["heavy", "light"], "got text"),
        (pd.array([1, None], dtype="Int64"), "nan"),
    ],
)
def test_bad_weights_of_rows_are_said(weights, said):
    with pytest.raises(DataError, match=said):
        checked_weights(pd.Series(weights), "column 'w'")


def test_the_newest_rows_judge_where_an_estimator_lets_them():
    model = Recorder()
    scaled = make_pipeline(StandardScaler(), model)
    rows = rows_of([0, 1] * 5, np.arange(10.0))
    fit_model(scaled, rows, early_stopping=EarlyStopping(fraction=0.25, patience=4))
    x, y, weights, x_val, y_val, weights_val = model.seen_
    assert (len(x), len(x_val)) == (7, 3)
    assert y.index.tolist() + y_val.index.tolist() == rows.target.index.tolist()
    assert weights.tolist() + weights_val.tolist() == list(range(10))
    assert x.mean() == pytest.approx(0), "the scaler has not seen the newest rows"
    assert x_val.min() > x.max()
    assert (model.n_iter_no_change, model.early_stopping) == (4, True)


@pytest.mark.parametrize("caching", [False, True])
def test_boosting_stops_when_it_learns_nothing_more(tmp_path, caching):
    rng = np.random.default_rng(0)
    labels = pd.Series(rng.integers(0, 2, 500), name="late")
    rows = TrainingRows(pd.DataFrame({"hour": rng.normal(size=500)}), labels)
    model = make_pipeline(
        StandardScaler(),
        HistGradientBoostingClassifier(max_iter=500),
        memory=str(tmp_path) if caching else None,
    )
    fit_model(model, rows, early_stopping=EarlyStopping(patience=3))
    assert iterations(model) < 100
    assert model.predict(rows.features).shape == (500,)


@pytest.mark.parametrize(
    "model",
    [
        SGDClassifier(),
        MLPClassifier(hidden_layer_sizes=(2,), max_iter=400),
        GradientBoostingClassifier(),
    ],
)
def test_estimators_that_hold_out_rows_themselves_are_told_how_many(model):
    fit_model(model, rows_of([0, 1] * 50), early_stopping=EarlyStopping(fraction=0.2, patience=3))
    assert (model.validation_fraction, model.n_iter_no_change) == (0.2, 3)
    assert getattr(model, "early_stopping", True) is True


@pytest.mark.parametrize(
    ("model", "stopping", "error", "said"),
    [
        (LogisticRegression(), EarlyStopping(), ParameterError, "LogisticRegression has neither"),
        (Recorder(), EarlyStopping(fraction=1.0), ParameterError, "between 0 and 1"),
        (Recorder(), EarlyStopping(patience=0), ParameterError, "at least 1"),
        (Recorder(), EarlyStopping(fraction=0.9), ModelError, "4 rows are too few"),
    ],
)
def test_early_stopping_that_cannot_be_is_refused(model, stopping, error, said):
    with pytest.raises(error, match=said):
        fit_model(model, rows_of([0, 1, 0, 1]), early_stopping=stopping)


@pytest.mark.parametrize(
    ("model", "labels", "said"),
    [
        (LogisticRegression(), [1, 1, 1], "at least two classes .* 'late', got only .*1"),
        (LinearRegression(), [0.5, 0.5], "different numbers"),
    ],
)
def test_a_constant_target_is_refused(model, labels, said):
    with pytest.raises(DataError, match=said):
        fit_model(model, rows_of(labels))


@pytest.mark.parametrize(
    ("model", "known"),
    [
        (LogisticRegression(), True),
        (make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=3)), True),
        (KNeighborsClassifier(n_neighbors=1), False),
    ],
)
def test_iterations_are_told_where_they_are_known(model, known):
    fit_model(model, rows_of([0, 1] * 10))
    found = iterations(model)
    assert found >= 1 if known else found is None


def test_the_last_step_is_found_in_nested_pipelines():
    model = LinearRegression()
    assert last_step(make_pipeline(StandardScaler(), make_pipeline(model))) is model
