"""Suites of expectations in their one plain form, whichever form they were written in.

A suite is ``{"name": str, "expectations": [{"type", "kwargs", "severity"}, ...]}``. The same
suite, be it YAML, a dict or expectation objects of Great Expectations, gives the same dict.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import great_expectations as gx
from great_expectations.exceptions.exceptions import GreatExpectationsError
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.yaml_files import read_yaml

Suite = dict[str, Any]
"""A suite in its plain form."""
Entry = dict[str, Any]
"""One expectation of a suite in its plain form."""

_BAD_EXPECTATION = (GreatExpectationsError, TypeError, ValueError, KeyError)
_KEPT = ("type", "kwargs", "severity", "meta", "notes", "description")


def load_suite(suite: Any) -> Suite:
    """Return a suite in its plain form.

    Args:
        suite: A path or fsspec URI of YAML or JSON, a dict, a ``gx.ExpectationSuite``, a sequence
            of expectation objects or dicts, or a function without arguments that returns one of
            these, so that a DAG file need not import Great Expectations (8 s).

    Raises:
        ParameterError: there is no such file, it is no suite, or Great Expectations does not
            know an expectation or its arguments.
    """
    if callable(suite) and not isinstance(suite, Mapping):
        return _named(suite(), _function_name(suite))
    return _named(suite, "suite")


def parsed(entry: Any, name: str) -> Expectation:
    """Return what Great Expectations makes of an entry of the suite ``name``.

    A ``gx.ExpectationSuite`` would leave out what it cannot parse, and only log it.

    Raises:
        ParameterError: it does not know the expectation or its arguments.
    """
    if not isinstance(entry, Mapping):
        raise ParameterError(
            f"The suite {name!r} has the entry {entry!r:.200}. Expected a mapping with a `type`, "
            "`kwargs` and a `severity`, or an expectation object; correct it."
        )
    try:
        return ExpectationConfiguration(**entry).to_domain_obj()
    except _BAD_EXPECTATION as error:
        raise ParameterError(
            f"The suite {name!r} has the expectation {entry.get('type')!r} with kwargs "
            f"{entry.get('kwargs')!s:.500}, which Great Expectations refuses: {error!s:.1000}. "
            "Correct its type, kwargs or severity."
        ) from error


def _named(suite: Any, name: str) -> Suite:
    if isinstance(suite, str | os.PathLike):
        return _plain(read_yaml(os.fspath(suite), "suite", "load_suite"), os.fspath(suite))
    if isinstance(suite, gx.ExpectationSuite):
        return _plain({"name": suite.name, "expectations": suite.expectations}, name)
    if isinstance(suite, Sequence):
        return _plain({"expectations": list(suite)}, name)
    return _plain(suite, name)


def _function_name(function: Any) -> str:
    return str(getattr(getattr(function, "func", function), "__name__", "suite"))


def _plain(suite: Any, name: str) -> Suite:
    expectations = suite.get("expectations") if isinstance(suite, Mapping) else None
    if not isinstance(expectations, list) or not expectations:
        raise ParameterError(
            f"The suite {name} has no list `expectations`. Each entry needs a `type`, `kwargs` and "
            "a `severity` (critical, warning or info)."
        )
    name = suite.get("name") or name
    return {**suite, "name": name, "expectations": [_entry(each, name) for each in expectations]}


def _entry(entry: Any, name: str) -> Entry:
    expectation = entry if isinstance(entry, Expectation) else parsed(entry, name)
    plain: dict[str, Any] = expectation.configuration.to_json_dict()
    for key in plain["kwargs"]:
        if isinstance(getattr(expectation, key, None), set | frozenset):
            plain["kwargs"][key] = sorted(plain["kwargs"][key], key=str)
    return {key: plain[key] for key in _KEPT if plain.get(key) or key == "kwargs"}
