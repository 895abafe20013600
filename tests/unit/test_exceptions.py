from __future__ import annotations

import inspect

from airflow_mlops_provider import exceptions
from airflow_mlops_provider.exceptions import MlopsError, ParameterError

ERRORS = [
    error
    for _, error in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(error, MlopsError)
]


def test_the_tree_at_the_top_names_every_error():
    assert len(ERRORS) > 10
    assert all(error.__name__ in exceptions.__doc__ for error in ERRORS)


def test_every_error_says_in_one_line_what_it_is():
    assert all(error.__doc__.count("\n") == 0 for error in ERRORS)


def test_a_parameter_error_names_parameter_constraint_and_value():
    text = str(ParameterError.of("test_size", "split", "between 0 and 1", 3))
    assert text == "The test_size parameter of split must be between 0 and 1. Got 3 instead."
