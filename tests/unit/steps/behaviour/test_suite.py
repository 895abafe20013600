from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.behaviour import declared
from airflow_mlops_provider.steps.behaviour.suite import BehaviourSuite, load_suite

UP = {"kind": "directional", "name": "up", "feature": "x", "by": 1.0, "n": 20}


def change(frame):
    return frame


def test_every_form_of_a_suite_gives_the_same_tests(tmp_path):
    plain = {"name": "s", "tests": [UP, {"kind": "missing", "name": "m", "severity": "warning"}]}
    objects = [
        declared.Directional(name="up", feature="x", by=1, n=20),
        declared.Missing(name="m", severity="warning"),
    ]
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(plain))

    def s():
        return objects

    forms = [plain, str(tmp_path / "s.yaml"), s, lambda: plain]
    assert [load_suite(form) for form in forms] == [BehaviourSuite("s", objects)] * len(forms)
    assert load_suite(objects).tests == objects


@pytest.mark.parametrize(
    "transform",
    [
        "identity",
        {"set": {"feature": "x", "value": None}},
        [{"add": {"feature": ["x", "y"], "value": 1}}, {"permute": {"feature": "y"}}],
        change,
        f"{__name__}.change",
    ],
)
def test_a_transformation_is_named_a_function_or_a_path(transform):
    load_suite([declared.Invariance(name="t", transform=transform)])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("nonsense", "Expected a mapping"),
        ({"kind": "nonsense", "name": "t"}, "directional"),
        ({"kind": "missing"}, "name: "),
        ({**UP, "nonsense": 1}, "nonsense: Unexpected"),
        ({**UP, "severity": "info"}, "severity: "),
        ({**UP, "max_failure_rate": 1.5}, "max_failure_rate: "),
        ({**UP, "n": 0}, "n: "),
        ({**UP, "n": 1_000_000}, "n: "),
        ({**UP, "tolerance": float("nan")}, "tolerance: "),
        ({**UP, "by": 0}, "by parameter"),
        ({**UP, "to": [1, 2]}, "not both"),
        ({**UP, "by": None, "to": [1]}, "at least two"),
        ({"kind": "invariance", "name": "t", "transform": "nonsense"}, "'identity'"),
        ({"kind": "invariance", "name": "t", "transform": "non.sense"}, "import path"),
        ({"kind": "invariance", "name": "t", "transform": {"nonsense": {}}}, "nonsense"),
        (
            {"kind": "invariance", "name": "t", "transform": {"add": {"by": 1}}},
            "'feature', 'value'",
        ),
        ({"kind": "invariance", "name": "t", "transform": []}, "transform parameter"),
        ({"kind": "invariance", "name": "t", "transform": "os.sep"}, "callable"),
        (
            {"kind": "metamorphic", "name": "t", "transform": "identity", "relation": "equal"},
            "same_decision",
        ),
        ({"kind": "range", "name": "t", "box": {}}, "at least one feature"),
        ({"kind": "range", "name": "t", "box": {"x": {"low": 1, "high": 0}}}, "low <= high"),
        ({"kind": "range", "name": "t", "box": {"x": {"low": 1}}}, r"box\['x'\]"),
        ({"kind": "range", "name": "t", "box": {"x": []}}, r"box\['x'\]"),
        (
            {"kind": "range", "name": "t", "box": {"x": [1]}, "relation": "same"},
            "only if, transform",
        ),
        ({"kind": "minimum_functionality", "name": "t", "rows": []}, "rows: "),
        ({"kind": "minimum_functionality", "name": "t", "rows": [{"x": 1}]}, "expected"),
        (
            {
                "kind": "minimum_functionality",
                "name": "t",
                "rows": [{"inputs": {"x": 1}, "expected": {"klass": 1}}],
            },
            "klass",
        ),
    ],
)
def test_wrong_tests_are_named(wrong, said):
    with pytest.raises(ParameterError, match=said) as error:
        load_suite({"name": "the suite", "tests": [{"kind": "missing", "name": "m"}, wrong]})
    assert "the suite" in str(error.value)


def test_two_tests_of_one_name_are_refused():
    with pytest.raises(ParameterError, match=r"\['up'\]"):
        load_suite([UP, UP])


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump])
def test_a_suite_is_yaml_or_json(tmp_path, write):
    (tmp_path / "suite").write_text(write({"name": "s", "tests": [UP]}))
    assert load_suite(str(tmp_path / "suite")).tests[0].name == "up"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "an existing file"),
        ("name: [", "neither YAML nor JSON"),
        (b"\x80", "neither YAML nor JSON"),
        ("name: s", "no list `tests`"),
        ("[]", "no list `tests`"),
        ("tests: []", "no list `tests`"),
    ],
)
def test_what_is_no_suite_is_named(tmp_path: Path, text, said):
    path = tmp_path / "suite.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ParameterError, match=said) as error:
        load_suite(str(path))
    assert str(path) in str(error.value)
