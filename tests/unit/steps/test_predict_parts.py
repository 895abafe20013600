from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.models import infer_signature

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.steps import partitions
from airflow_mlops_provider.steps import predict_parts as steps
from airflow_mlops_provider.steps.predict import batch_predict
from airflow_mlops_provider.steps.predict_parts import predict_parts
from airflow_mlops_provider.steps.snapshot import write_dataset

ROWS = 40


class Sum(mlflow.pyfunc.PythonModel):
    """Gives the probability of each of ``classes`` classes; fails on negative ``x``."""

    def __init__(self, classes):
        self.classes = classes

    def predict(self, context, model_input, params=None):
        import numpy as np

        if (model_input["x"] < 0).any():
            raise ValueError("x is negative")
        total = (model_input["x"] + model_input["y"]).to_numpy()
        return np.column_stack([total + index for index in range(self.classes)])


def frame_of(rows=ROWS, **columns):
    given = {
        "x": np.arange(rows, dtype=float),
        "y": 0.5,
        "id": range(rows),
        "origin": (["EWR", "JFK", None, "a/b"] * rows)[:rows],
        "time": pd.date_range("2013-01-30", periods=rows, freq="6h", tz="UTC"),
    }
    return pd.DataFrame(given | columns)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Models of two and of three classes, by the number of classes."""
    store = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    experiment = mlflow.create_experiment("predict", artifact_location=f"{store}/artifacts")
    frame, uris = frame_of()[["x", "y"]], {}
    with mlflow.start_run(experiment_id=experiment):
        for classes in (2, 3):
            model = Sum(classes)
            signature = infer_signature(frame, model.predict(None, frame))
            info = mlflow.pyfunc.log_model(
                name=f"m{classes}",
                python_model=model,
                signature=signature,
                pip_requirements=[],
            )
            uris[classes] = f"runs:/{info.run_id}/m{classes}"
    yield uris
    mlflow.set_tracking_uri(before)


@pytest.fixture
def dataset(workspace):
    def make(**columns):
        return write_dataset(frame_of(**columns), "flights", workspace, "test")

    return make


def notes(ref):
    return json.loads(Path(ref.manifest_uri).read_text())["parts"]


def rows(ref):
    """All rows that were written, with their partition."""
    return pd.concat(
        pq.read_table(note["uri"], partitioning=None).to_pandas().assign(part=note["partition"])
        for note in notes(ref)
    )


def predict(uri, data, workspace, by=None, **options):
    given = {"columns": ["origin"]} if by is None else by
    return predict_parts(
        uri, data, workspace=workspace, partitioning=given, keep_columns=["id"], **options
    )


def test_each_partition_is_a_file_of_its_rows_in_order(logged, dataset, workspace):
    ref = predict(logged[2], dataset(), workspace, batch_rows=7)
    assert [note["partition"] for note in notes(ref)] == [
        "origin=EWR",
        "origin=JFK",
        "origin=__HIVE_DEFAULT_PARTITION__",
        "origin=a%2Fb",
    ]
    found = rows(ref)
    ewr = found[found.part == "origin=EWR"]
    assert list(ewr.id) == list(range(0, ROWS, 4))
    assert (found.score == found.id + 1.5).all()
    assert (ref.n_rows, ref.n_parts, ref.n_reused) == (ROWS, 4, 0)
    assert ref.columns == ["id", "score"]
    assert all(note["uri"].startswith(f"{ref.uri}/{note['partition']}/") for note in notes(ref))


def test_more_classes_have_a_column_each(logged, dataset, workspace):
    found = rows(predict(logged[3], dataset(), workspace))
    assert list(found)[:-1] == ["id", "score", "probability_0", "probability_1", "probability_2"]
    assert (found.probability_0 == found.id + 0.5).all()
    assert (found.score == found.probability_2).all()


@pytest.mark.parametrize(
    ("period", "labels"),
    [
        ("year", ["2013"]),
        ("month", ["2013-01", "2013-02"]),
        ("week", ["2013-01-28", "2013-02-04"]),
        (
            "day",
            [f"2013-01-{day}" for day in (30, 31)] + [f"2013-02-0{day}" for day in range(1, 9)],
        ),
    ],
)
def test_a_time_is_partitioned_by_its_period(logged, dataset, workspace, period, labels):
    by = {"time_column": "time", "period": period}
    ref = predict(logged[2], dataset(), workspace, by)
    assert [note["partition"] for note in notes(ref)] == [f"time={label}" for label in labels]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batch_rows=st.integers(1, ROWS + 5), of=st.integers(1, 4))
def test_every_row_is_predicted_once(logged, dataset, workspace, batch_rows, of):
    data = dataset()
    shares = [
        predict(logged[2], data, workspace, batch_rows=batch_rows, part=part, of=of)
        for part in range(of)
    ]
    assert sorted(pd.concat(rows(each) for each in shares if each.n_parts).id) == list(range(ROWS))
    whole = batch_predict(logged[2], data, workspace=workspace, keep_columns=["id"])
    scores = pd.concat(rows(each) for each in shares if each.n_parts).set_index("id").score
    expected = pq.read_table(whole.uri).to_pandas().set_index("id").score
    assert scores.sort_index().equals(expected)


def test_processes_write_what_one_writes(logged, dataset, workspace, tmp_path):
    data = dataset()
    one = predict(logged[2], data, workspace)
    two = predict(logged[2], data, str(tmp_path / "other"), workers=2)
    assert one.file_hash == two.file_hash


def test_a_second_run_predicts_nothing(logged, dataset, workspace):
    data = dataset()
    first = predict(logged[2], data, workspace)
    with patch.object(steps, "_predict_part", side_effect=AssertionError):
        again = predict(logged[2], data, workspace)
    assert (again.n_reused, again.file_hash, again.uri) == (4, first.file_hash, first.uri)


def test_a_retry_goes_on_where_a_failed_one_stopped(logged, dataset, workspace):
    data, done = dataset(), []
    whole = steps._predict_part

    def dying(job):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.label)
        whole(job)

    with patch.object(steps, "_predict_part", dying), pytest.raises(KeyboardInterrupt):
        predict(logged[2], data, workspace)
    with patch.object(steps, "_predict_part", side_effect=whole) as rest:
        ref = predict(logged[2], data, workspace)
    assert {call.args[0].label for call in rest.call_args_list}.isdisjoint(done)
    assert (ref.n_reused, ref.n_parts) == (2, 4)
    assert sorted(rows(ref).id) == list(range(ROWS))


def test_a_part_whose_file_is_gone_is_predicted_again(logged, dataset, workspace):
    data = dataset()
    first = predict(logged[2], data, workspace)
    Path(notes(first)[1]["uri"]).unlink()
    again = predict(logged[2], data, workspace)
    assert (again.n_reused, again.file_hash) == (3, first.file_hash)


def test_other_inputs_have_another_folder(logged, dataset, workspace):
    one = predict(logged[2], dataset(), workspace)
    other = predict(logged[3], dataset(), workspace)
    more = predict(logged[2], dataset(y=1.5), workspace)
    assert len({one.uri, other.uri, more.uri}) == 3


def test_rows_that_fail_are_named_and_noted_nowhere(logged, dataset, workspace):
    data = dataset(x=[-1.0] + [1.0] * (ROWS - 1))
    with pytest.raises(ModelError, match=r"rows 0 to 9 of the partition origin=EWR"):
        predict(logged[2], data, workspace)
    assert list(Path(workspace).rglob("_parts/*")) == []


@pytest.mark.parametrize(
    ("by", "name"),
    [
        ({}, "partition_by"),
        ({"columns": ["origin"], "time_column": "time", "period": "day"}, "partition_by"),
        ({"time_column": "time"}, "period"),
        ({"time_column": "time", "period": "fortnight"}, "period"),
        ({"columns": ["origin"], "period": "day"}, "period"),
        ({"time_column": "origin", "period": "day"}, "time_column"),
    ],
)
def test_a_partitioning_that_is_none_is_named(logged, dataset, workspace, by, name):
    with pytest.raises(ParameterError, match=f"The {name} parameter of predict_parts"):
        predict(logged[2], dataset(), workspace, by)


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"of": 0}, {"part": 2, "of": 2}, {"part": -1}, {"batch_rows": 0}]
)
def test_sizes_out_of_range_are_named(logged, dataset, workspace, options):
    with pytest.raises(ParameterError, match="parameter of predict_parts"):
        predict(logged[2], dataset(), workspace, **options)


def test_too_many_partitions_are_refused(logged, dataset, workspace, monkeypatch):
    monkeypatch.setattr(partitions, "_MOST_PARTITIONS", 3)
    with pytest.raises(ParameterError, match="at most 3 values"):
        predict(logged[2], dataset(), workspace)


def test_a_file_with_other_rows_than_it_says_is_refused(logged, dataset, workspace):
    from dataclasses import replace

    with pytest.raises(DataError, match=f"Expected 41 rows in .*, got {ROWS}"):
        predict(logged[2], replace(dataset(), n_rows=41), workspace)
