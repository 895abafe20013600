from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.serving.json_text import decode, encode

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(codec=None), max_size=4),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


@given(value=VALUES)
def test_both_ways_agree_with_pythons_own(value):
    assert same(json.loads(encode(value)), value)
    assert same(decode(json.dumps(value).encode()), value)


@given(text=st.text('0123456789.eE+-[], "\\udNaInfty{}:', max_size=12))
def test_what_python_refuses_is_refused_and_the_rest_is_equal(text):
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            decode(text.encode())
    else:
        assert same(decode(text.encode()), expected)


def same(one, other):
    return json.dumps(one) == json.dumps(other)


def test_what_is_not_finite_is_null():
    assert encode([float("nan"), float("-inf"), 1.5]) == b"[null,null,1.5]"
