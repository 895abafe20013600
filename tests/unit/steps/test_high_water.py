from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.high_water import Mark

VALUES = [
    7,
    0.5,
    "b",
    None,
    Decimal("12.30"),
    date(2013, 7, 1),
    datetime(2013, 7, 1, 12),
    datetime(2013, 7, 1, 12, tzinfo=UTC),
]


@pytest.mark.parametrize("value", VALUES)
def test_a_mark_comes_back_as_it_was(value):
    mark = Mark.from_json(json.loads(json.dumps(Mark(value).to_json())))
    assert mark.value == value
    assert type(mark.value) is type(value)


@pytest.mark.parametrize("value", [True, b"raw", [1]])
def test_a_column_that_does_not_grow_is_refused(value):
    with pytest.raises(DataError, match="column that grows"):
        Mark(value).to_json()


def test_an_arrival_is_the_same_between_the_same_marks():
    event = Mark(9).arrival("flights", 4, Mark(5))
    assert (event["after"], event["up_to"], event["n_rows"]) == (5, 9, 4)
    assert event["id"] == Mark(9).arrival("flights", 4, Mark(5))["id"]
    assert event["id"] != Mark(9).arrival("flights", 9, Mark())["id"]
