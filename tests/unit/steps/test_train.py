from __future__ import annotations

import mlflow
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError, PermanentError
from airflow_mlops_provider.records import ModelRef
from airflow_mlops_provider.steps.snapshot import read_dataset
from tests.training import train

FEATURES = ["hour", "origin"]


def classifier(max_iter: int = 10):
    columns = make_column_transformer((OneHotEncoder(), ["origin"]), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=max_iter))


class Homemade(ClassifierMixin, BaseEstimator):
    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x):
        return np.full((len(x), 2), 0.5)

    def predict(self, x):
        return np.zeros(len(x))


def test_a_model_is_logged_with_data_signature_and_requirements(client, run, dataset):
    model = train(
        dataset, classifier, run=run, features=FEATURES, target="late", params={"max_iter": 5}
    )
    assert ModelRef.from_xcom(model.to_xcom()) == model
    assert model.metrics.pop("fit_seconds") > 0
    counted = {"train_rows": 990.0, "train_unlabelled": 10.0, "train_features": 2.0}
    assert model.metrics == {**counted, "train_iterations": 5.0}
    info = mlflow.models.get_model_info(model.model_uri)
    assert info.signature.inputs.input_names() == FEATURES
    assert info.flavors["sklearn"]["serialization_format"] == "skops"
    inputs = client.get_run(run.run_id).inputs.dataset_inputs
    assert [(i.dataset.name, {t.key: t.value for t in i.tags}["sha256"]) for i in inputs] == [
        ("flights", dataset.file_hash)
    ]


def test_the_logged_model_gives_probabilities(run, dataset):
    model = train(dataset, classifier, run=run, features=FEATURES, target="late")
    rows = read_dataset(dataset)[FEATURES].head(3)
    scores = mlflow.pyfunc.load_model(model.model_uri).predict(rows)
    assert scores.shape == (3, 2)
    assert scores.sum(axis=1) == pytest.approx(1)


def test_a_regressor_is_served_by_its_prediction(run, dataset):
    model = train(
        dataset, "sklearn.linear_model.LinearRegression", run=run, features=["hour"], target="late"
    )
    loaded = mlflow.pyfunc.load_model(model.model_uri)
    assert loaded.predict(read_dataset(dataset)[["hour"]].head(3)).shape == (3,)


def test_code_nobody_trusted_is_refused_by_name(run, dataset):
    arguments = {"run": run, "features": ["hour"], "target": "late"}
    with pytest.raises(ModelError, match=r"Homemade.*trusted_types"):
        train(dataset, Homemade, **arguments)
    name = f"{Homemade.__module__}.Homemade"
    assert train(dataset, Homemade, **arguments, trusted_types=[name])


@pytest.mark.parametrize(
    ("features", "target", "said"),
    [
        (["hour", "altitude"], "late", r"\['altitude'\]"),
        (["hour"], "early", r"\['early'\]"),
        (["hour"], "empty", "got none in 1000 rows"),
    ],
)
def test_missing_columns_and_labels_are_named(run, tmp_path, dataset, features, target, said):
    from airflow_mlops_provider.steps.snapshot import write_dataset

    frame = read_dataset(dataset).assign(empty=np.nan)
    widened = write_dataset(frame, "flights", str(tmp_path), "test")
    with pytest.raises(DataError, match=said):
        train(widened, classifier, run=run, features=features, target=target)


@pytest.mark.parametrize(
    ("features", "target", "params", "said"),
    [
        (["origin"], "late", {}, "EWR|JFK"),
        (["hour"], "late", {"C": -1.0}, "'C' parameter"),
        (["hour"], "origin", {}, "column 'origin' of dataset 'flights', got text"),
    ],
)
def test_what_an_estimator_refuses_is_said_and_logs_no_model(
    client, run, dataset, features, target, params, said
):
    name = "sklearn.linear_model.LogisticRegression"
    arguments = {"features": features, "target": target, "params": params}
    with pytest.raises(PermanentError, match=said):
        train(dataset, name, run=run, **arguments)
    assert client.get_run(run.run_id).outputs.model_outputs == []
