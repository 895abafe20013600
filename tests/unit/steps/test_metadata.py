from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.records import DatasetRef, Metric
from airflow_mlops_provider.steps.metadata import (
    artifact_url,
    mlflow_run_url,
    parameters_of,
    record_tag,
    tags_of,
)


def test_what_is_not_known_is_no_tag_and_what_is_no_text_is_json():
    facts = {"commit": None, "conf": {"month": "2013-01"}, "user": "ann", "n": 3}
    assert tags_of(facts) == {"conf": '{"month": "2013-01"}', "user": "ann", "n": "3"}


def test_parameters_are_named_apart_from_those_of_a_model():
    given = parameters_of({"target": "late", "floors": {"auc": 0.7}, "trusted_types": None})
    assert given == {"task.target": "late", "task.floors": '{"auc": 0.7}'}


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=9000), max_size=3))
def test_nothing_is_longer_than_mlflow_takes(facts):
    assert all(len(value) <= 5000 for value in tags_of(facts).values())
    assert all(len(value) <= 500 for value in parameters_of(facts).values())


def test_more_arguments_than_one_request_holds_are_left_out():
    assert len(parameters_of({f"a{number}": "x" for number in range(200)})) < 100


def test_a_short_record_is_a_tag_that_reads_back():
    metric = Metric(value=0.5, low=None, high=None, n=3)
    key, text = record_tag(metric)
    assert key == "mlops.record.Metric"
    assert Metric.from_xcom(json.loads(text)) == metric


@pytest.mark.parametrize("n_columns", [3, 2000])
def test_a_record_that_is_too_long_comes_without_its_tables(n_columns):
    wide = DatasetRef(
        name="wide",
        uri="/w/a.parquet",
        file_hash="f",
        logical_hash="l",
        schema_hash="s",
        n_rows=1,
        columns={f"column_{number}": "double" for number in range(n_columns)},
        source="test",
    )
    told = json.loads(record_tag(wide)[1])
    assert told["name"] == "wide"
    assert ("columns" in told) == (n_columns == 3)


@pytest.mark.parametrize(
    ("tracking_uri", "expected"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/#/experiments/3/runs/abc"),
        ("https://mlflow.example.com/", "https://mlflow.example.com/#/experiments/3/runs/abc"),
        ("sqlite:////tmp/mlflow.db", None),
    ],
)
def test_the_page_of_a_run(tracking_uri, expected):
    assert mlflow_run_url(tracking_uri, "3", "abc") == expected


def test_the_page_of_an_artifact():
    run = mlflow_run_url("http://127.0.0.1:5000", "3", "abc")
    expected = "http://127.0.0.1:5000/#/experiments/3/runs/abc/artifacts/data_docs.html"
    assert artifact_url(run, "data_docs.html") == expected
