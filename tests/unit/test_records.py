from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import RecordError
from airflow_mlops_provider.records import DatasetRef, Metric, SplitRef

DATASET = DatasetRef(
    name="flights",
    uri="/w/a.parquet",
    file_hash="f",
    logical_hash="l",
    schema_hash="s",
    n_rows=3,
    columns={"late": "int64"},
    source="landing",
)


def test_a_record_survives_xcom_as_json():
    split = SplitRef(strategy="time", train=DATASET, test=DATASET)
    assert SplitRef.from_xcom(json.loads(json.dumps(split.to_xcom()))) == split


def test_a_record_passes_through_itself():
    assert DatasetRef.from_xcom(DATASET) is DATASET


@pytest.mark.parametrize("one", [DATASET, DATASET.to_xcom()])
def test_one_record_may_stand_for_a_list_of_them(one):
    assert DatasetRef.several_from_xcom(one) == DatasetRef.several_from_xcom([one]) == [DATASET]
    assert DatasetRef.several_from_xcom([one, one]) == [DATASET, DATASET]


@pytest.mark.parametrize("none", [None, [], ()])
def test_no_records_are_an_empty_list(none):
    assert DatasetRef.several_from_xcom(none) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n_rows": "many"}, "n_rows"),
        ({"uri": None}, "uri"),
        ({"surprise": 1}, "surprise"),
        ({"columns": {"late": 1}}, "columns.late"),
    ],
)
def test_a_wrong_field_is_named(change, named):
    with pytest.raises(RecordError, match=f"DatasetRef: {named}"):
        DatasetRef.from_xcom(DATASET.to_xcom() | change)


def test_a_nested_field_is_named_by_its_path():
    payload = SplitRef(strategy="time", train=DATASET, test=DATASET).to_xcom()
    payload["train"]["n_rows"] = "many"
    with pytest.raises(RecordError, match=r"train\.n_rows"):
        SplitRef.from_xcom(payload)


@pytest.mark.parametrize("payload", [None, "{'uri': 'x'}", 3, ["a"]])
def test_what_is_no_record_gets_a_remedy(payload):
    with pytest.raises(RecordError, match=r"upstream\.output"):
        DatasetRef.from_xcom(payload)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_refused_before_airflow_has_to(value):
    with pytest.raises(RecordError, match="value"):
        Metric(value=value, low=None, high=None, n=1).to_xcom()


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(min_value=0))
def test_every_finite_metric_round_trips(value, n):
    metric = Metric(value=value, low=None, high=value, n=n)
    assert Metric.from_xcom(json.loads(json.dumps(metric.to_xcom()))) == metric
