from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from sklearn.tree import DecisionTreeClassifier

from airflow_mlops_provider.exceptions import MlflowUnavailableError, ModelError
from airflow_mlops_provider.steps.evaluate.answers import (
    load_model,
    predict_answers,
    predict_score,
)
from airflow_mlops_provider.steps.snapshot import read_dataset
from tests.training import train


@pytest.fixture
def model_uri(run, dataset):
    return train(
        dataset, DecisionTreeClassifier, run=run, features=["hour"], target="late"
    ).model_uri


class Answering:
    def __init__(self, model, answer):
        self.metadata, self.answer = model.metadata, answer

    def predict(self, frame):
        return self.answer(len(frame))


@pytest.mark.parametrize("uri", ["models:/nobody@champion", "models:/nobody/1", "models:/m-0"])
def test_an_unknown_model_is_named(client, uri):
    with pytest.raises(ModelError, match=uri):
        load_model(uri)


def test_a_file_that_nobody_registered_is_not_loaded(tmp_path, model_uri):
    folder = mlflow.artifacts.download_artifacts(model_uri, dst_path=str(tmp_path))
    for uri in (folder, f"file://{folder}", "https://example.com/model"):
        with pytest.raises(ModelError, match="register it first"):
            load_model(uri)


@pytest.mark.parametrize("damage", ["gone", "torn", "empty"])
def test_a_model_whose_files_are_damaged_is_said(client, model_uri, damage):
    location = client.get_logged_model(model_uri.removeprefix("models:/")).artifact_location
    (file,) = Path(location.removeprefix("file://")).glob("model.skops")
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(data[: len(data) // 2] if damage == "torn" else b"")
    with pytest.raises(ModelError, match=model_uri):
        load_model(model_uri)


def test_an_outage_is_not_the_models_fault():
    error = MlflowException("connection refused")
    with (
        patch("mlflow.pyfunc.load_model", side_effect=error),
        pytest.raises(MlflowUnavailableError),
    ):
        load_model("models:/a/1")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda _: np.zeros(3), "1000 predictions"),
        (lambda n: np.zeros((n, 2, 2)), r"\(1000, 2, 2\)"),
        (lambda n: ["late"] * n, "numbers from the model, got ValueError"),
        (lambda n: np.r_[np.zeros(n - 1), np.nan], "for 1 of 1000 rows, the first at row 999"),
    ],
)
def test_answers_that_are_no_numbers_for_each_row_are_refused(model_uri, holdout, answer, said):
    model = Answering(load_model(model_uri), answer)
    with pytest.raises(ModelError, match=said):
        predict_score(model, read_dataset(holdout))


def test_a_column_that_became_text_is_not_given_to_the_model(model_uri, holdout):
    frame = read_dataset(holdout).assign(hour="noon")
    with pytest.raises(ModelError, match="types it was trained on"):
        predict_answers(load_model(model_uri), frame)


@pytest.mark.parametrize(("columns", "shape"), [(1, (1000,)), (2, (1000,)), (4, (1000, 4))])
def test_one_number_a_row_unless_there_are_several_classes(model_uri, holdout, columns, shape):
    model = Answering(load_model(model_uri), lambda n: np.full((n, columns), 0.5))
    frame = read_dataset(holdout)
    assert predict_answers(model, frame).shape == shape
    assert predict_score(model, frame).shape == (1000,)
