from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.experiment.outcomes import (
    outcome_frame,
    read_outcomes,
    require_source,
)

FRAME = pd.DataFrame(
    {
        "request_id": ["a", "b", None, "d"],
        "ts": ["2026-01-01T00:00:00+00:00"] * 4,
        "value": [1, 0, 1, None],
    }
)
WINDOW = {"start": datetime(2026, 1, 1, tzinfo=UTC), "end": datetime(2026, 1, 2, tzinfo=UTC)}


def sold(start, end, shop="main"):
    yield FRAME.assign(request_id=f"{shop}-" + FRAME["request_id"])
    yield pa.table({"request_id": ["z"], "ts": [start], "value": [2.5]})


def test_a_function_is_called_with_the_window_and_may_yield(monkeypatch):
    found = read_outcomes(sold, **WINDOW, arguments={"shop": "s"})
    assert found["request_id"].tolist() == ["s-a", "s-b", "z"]
    assert found["value"].tolist() == [1.0, 0.0, 2.5]
    assert str(found["ts"].dt.tz) == "UTC"


def test_files_are_read(tmp_path):
    FRAME.to_csv(tmp_path / "a.csv", index=False)
    FRAME.rename(columns={"request_id": "entity_id"}).to_parquet(tmp_path / "b.parquet")
    by_request = read_outcomes(str(tmp_path / "a.csv"), **WINDOW)
    by_entity = read_outcomes(str(tmp_path / "*.parquet"), **WINDOW)
    assert by_request["request_id"].tolist() == by_entity["entity_id"].tolist() == ["a", "b"]


def test_no_outcome_yet_is_an_empty_frame():
    found = outcome_frame([], "here")
    assert list(found) == ["request_id", "ts", "value"]
    assert read_outcomes(lambda start, end: FRAME[:0], **WINDOW).empty


@pytest.mark.parametrize("column", ["ts", "value", "request_id"])
def test_a_column_that_is_missing_is_named(column):
    with pytest.raises(DataError, match=column if column != "request_id" else "entity_id"):
        read_outcomes(lambda start, end: FRAME.drop(columns=column), **WINDOW)


def test_a_value_that_is_no_number_is_told():
    with pytest.raises(DataError, match="numbers as value"):
        read_outcomes(lambda start, end: FRAME.assign(value="much"), **WINDOW)


def test_a_source_is_checked_before_anything_is_read():
    require_source(sold, "T")
    require_source("s3://bucket/outcomes", "T")
    require_source("outcomes.csv", "T")
    require_source("json.dumps", "T")
    with pytest.raises(ParameterError, match="outcomes parameter of T"):
        require_source("json.nothing", "T")
