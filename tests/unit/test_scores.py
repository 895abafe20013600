from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.scores import numeric_score

JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=2)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
)


@pytest.mark.parametrize(
    ("output", "score"),
    [
        (0.5, 0.5),
        (2, 2.0),
        (True, 1.0),
        ([0.2, 0.8], 0.8),
        ({"no": 0.2, "yes": [0.1, 0.7]}, 0.7),
        ("0.5", None),
        (None, None),
        ([], None),
        ([[]], None),
        ({}, None),
        (10**400, None),
    ],
)
def test_an_answer_is_read_as_its_last_number(output, score):
    assert numeric_score(output) == score


@given(output=JSON_VALUES)
def test_whatever_json_holds_is_a_number_or_none(output):
    assert isinstance(numeric_score(output), float | None)
