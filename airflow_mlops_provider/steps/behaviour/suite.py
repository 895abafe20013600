"""Suites of behavioural tests, whichever form they were written in."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.behaviour import declared as kinds
from airflow_mlops_provider.steps.behaviour.box import axes
from airflow_mlops_provider.steps.behaviour.relations import relation
from airflow_mlops_provider.steps.behaviour.transformations import transformation
from airflow_mlops_provider.steps.yaml_files import read_yaml

_EXPECTED = ({"class"}, {"low"}, {"high"}, {"low", "high"})


@dataclass(frozen=True)
class BehaviourSuite:
    """Tests under a name."""

    name: str
    tests: list[kinds.BehaviourTest]


def load_suite(suite: Any) -> BehaviourSuite:
    """Return a suite of which every test could be run.

    Args:
        suite: A path or fsspec URI of YAML or JSON; a dict ``{"name": str, "tests": [...]}``; a
            sequence of tests, which are dicts with a ``kind`` or objects of ``declared``; or a
            function without arguments that returns one of these.

    Raises:
        ParameterError: there is no such file, it is no suite, two tests have one name, or a test
            has an argument that is missing, unknown or out of range.
    """
    if callable(suite) and not isinstance(suite, Mapping):
        return _named(suite(), str(getattr(suite, "__name__", "suite")))
    return _named(suite, "suite")


def _named(suite: Any, name: str) -> BehaviourSuite:
    if isinstance(suite, str | os.PathLike):
        return _plain(read_yaml(os.fspath(suite), "tests", "load_suite"), os.fspath(suite))
    if isinstance(suite, Sequence):
        return _plain({"tests": list(suite)}, name)
    return _plain(suite, name)


def _plain(suite: Any, name: str) -> BehaviourSuite:
    tests = suite.get("tests") if isinstance(suite, Mapping) else None
    if not isinstance(tests, list) or not tests:
        raise ParameterError(
            f"The suite {name} has no list `tests`. Each entry needs a `kind` (one of "
            f"{sorted(kinds.KINDS)}), a `name` and the arguments of its kind."
        )
    name = str(suite.get("name") or name)
    read = [_test(each, name) for each in tests]
    twice = [each for each, count in Counter(test.name for test in read).items() if count > 1]
    if twice:
        raise ParameterError(
            f"The suite {name!r} has several tests of the name {twice}. Name each differently."
        )
    return BehaviourSuite(name, read)


def _test(entry: Any, suite: str) -> kinds.BehaviourTest:
    kind, arguments = _arguments(entry, suite)
    try:
        test = TypeAdapter(kind).validate_python(arguments)
        _require_sound(test)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}"
            for item in error.errors()[:5]
        )
        raise _refused(suite, arguments, kind, wrong) from error
    except ParameterError as error:
        raise _refused(suite, arguments, kind, str(error)) from error
    return test


def _arguments(entry: Any, suite: str) -> tuple[type[kinds.BehaviourTest], dict[str, Any]]:
    if isinstance(entry, kinds.BehaviourTest):
        return type(entry), {each.name: getattr(entry, each.name) for each in fields(entry)}
    known = kinds.KINDS.get(str(entry.get("kind"))) if isinstance(entry, Mapping) else None
    if known is None:
        raise ParameterError(
            f"The suite {suite!r} has the entry {entry!r:.200}. Expected a mapping with a `kind`, "
            f"one of {sorted(kinds.KINDS)}, or an object of one; correct it."
        )
    return known, {key: value for key, value in entry.items() if key != "kind"}


def _require_sound(test: Any) -> None:
    """Refuse now what could not be run on any data."""
    if getattr(test, "transform", None) is not None:
        transformation(test.transform)
    if getattr(test, "relation", None) is not None:
        relation(test.relation)
    if isinstance(test, kinds.Directional):
        _require((test.by is None) != (test.to is None), "by", "given or `to`, not both", test.by)
        _require(test.to is None or len(test.to) > 1, "to", "at least two values", test.to)
        moves = test.by if isinstance(test.by, list) else [test.by]
        _require(test.by is None or any(moves), "by", "other than 0", test.by)
    if isinstance(test, kinds.Range):
        axes(test.box)
        _require(
            (test.transform is None) == (test.relation is None),
            "relation",
            "given if, and only if, transform is",
            test.relation,
        )
    if isinstance(test, kinds.MinimumFunctionality):
        for row in test.rows:
            _require(_is_row(row), "rows", "{inputs: {feature: value}, expected: ...} each", row)


def _is_row(row: Mapping[str, Any]) -> bool:
    if set(row) != {"inputs", "expected"} or not isinstance(row["inputs"], Mapping):
        return False
    expected = row["expected"]
    if not isinstance(expected, Mapping):
        return isinstance(expected, int | float)
    numbers = all(isinstance(each, int | float) for each in expected.values())
    return numbers and set(expected) in _EXPECTED


def _require(holds: bool, name: str, constraint: str, value: object) -> None:
    if not holds:
        raise ParameterError.of(name, "a behavioural test", constraint, value)


def _refused(
    suite: str, arguments: Mapping[str, Any], kind: type[kinds.BehaviourTest], wrong: str
) -> ParameterError:
    return ParameterError(
        f"The suite {suite!r} has the {kind.kind} test {arguments.get('name')!r} with arguments "
        f"that cannot be used: {wrong}. Correct them."
    )
