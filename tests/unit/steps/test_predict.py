from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow.types import ColSpec, Schema

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.steps import predict
from airflow_mlops_provider.steps.predict import batch_predict
from airflow_mlops_provider.steps.snapshot import write_dataset


class Model:
    """Gives the sum of ``x`` and ``y`` as the probability of class 1, and notes what it saw."""

    def __init__(self, features=("x", "y")):
        self.sizes = []
        schema = Schema([ColSpec("double", name) for name in features]) if features else None
        self.metadata = SimpleNamespace(get_input_schema=lambda: schema)

    def predict(self, frame):
        self.sizes.append(len(frame))
        if (frame["x"] < 0).any():
            raise ValueError("x is negative")
        total = (frame["x"] + frame["y"]).to_numpy()
        return np.column_stack([1 - total, total])


@pytest.fixture
def model(monkeypatch):
    made = Model()
    monkeypatch.setattr(predict, "load_model", lambda uri: made)
    return made


@pytest.fixture
def dataset(workspace):
    def make(**columns):
        frame = pd.DataFrame({"x": range(5), "y": 0.5, "id": list("abcde")} | columns)
        return write_dataset(frame, name="flights", workspace=workspace, source="test")

    return make


def rows(ref):
    return pq.read_table(ref.uri).to_pydict()


@pytest.mark.parametrize(("batch_rows", "sizes"), [(2, [2, 2, 1]), (5, [5]), (100, [5])])
def test_scores_keep_the_order_whatever_the_batches(model, dataset, workspace, batch_rows, sizes):
    ref = batch_predict(
        "models:/m/1", dataset(), workspace=workspace, batch_rows=batch_rows, keep_columns=["id"]
    )
    assert rows(ref) == {"id": list("abcde"), "score": [0.5, 1.5, 2.5, 3.5, 4.5]}
    assert model.sizes == sizes
    assert (ref.n_rows, ref.model_versions) == (5, ["models:/m/1"])


def test_a_second_run_gives_the_same_file(model, dataset, workspace):
    first, second = (
        batch_predict("models:/m/1", dataset(), workspace=workspace, batch_rows=2) for _ in "12"
    )
    assert first == second
    assert list(rows(first)) == ["score"]


def test_missing_columns_are_named(model, dataset, workspace):
    model.metadata = Model(["x", "wind", "rain"]).metadata
    with pytest.raises(DataError, match=r"columns \['wind', 'rain'\] for the model"):
        batch_predict("models:/m/1", dataset(), workspace=workspace)
    model.metadata = Model().metadata
    with pytest.raises(DataError, match=r"columns \['tail'\] for keep_columns"):
        batch_predict("models:/m/1", dataset(), workspace=workspace, keep_columns=["tail"])


def test_a_model_without_a_signature_is_refused(model, dataset, workspace):
    model.metadata = Model([]).metadata
    with pytest.raises(ModelError, match="signature with named columns"):
        batch_predict("models:/m/1", dataset(), workspace=workspace)


def test_a_model_that_fails_leaves_nothing_behind(model, dataset, workspace, tmp_path):
    data = dataset(x=[0, 1, 2, -1, 4])
    with pytest.raises(ModelError, match=r"failed on rows 2 to 3: .*x is negative"):
        batch_predict("models:/m/1", data, workspace=workspace, batch_rows=2)
    assert [path for path in tmp_path.rglob("predictions/**/*") if path.is_file()] == []


def test_a_dataset_that_is_gone_is_said_to_be(model, dataset, workspace, tmp_path):
    data = dataset()
    for path in tmp_path.rglob("*.parquet"):
        path.unlink()
    with pytest.raises(DataError, match="is gone"):
        batch_predict("models:/m/1", data, workspace=workspace)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"batch_rows": 0}, "batch_rows"), ({"keep_columns": ["score"]}, "keep_columns")],
)
def test_a_parameter_out_of_range_is_named(model, dataset, workspace, options, name):
    with pytest.raises(ParameterError, match=f"The {name} parameter of batch_predict"):
        batch_predict("models:/m/1", dataset(), workspace=workspace, **options)
