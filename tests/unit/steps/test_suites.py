from __future__ import annotations

import json
from pathlib import Path

import great_expectations as gx
import great_expectations.expectations as gxe
import pytest
import yaml

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.suite_columns import columns_of, for_columns
from airflow_mlops_provider.steps.suites import load_suite


def expectation(severity, **kwargs):
    kwargs = {"column": "n", "max_value": 2.0, **kwargs}
    return {"type": "expect_column_max_to_be_between", "kwargs": kwargs, "severity": severity}


def entry(kind, **kwargs):
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": "critical"}


def test_every_form_of_a_suite_gives_the_same_dict(tmp_path):
    plain = {
        "name": "s",
        "expectations": [
            expectation("info"),
            entry("column_values_to_be_in_set", column="t", value_set=["b", "a"], mostly=0.5),
        ],
    }
    objects = [
        gxe.ExpectColumnMaxToBeBetween(column="n", max_value=2, severity="info"),
        gxe.ExpectColumnValuesToBeInSet(column="t", value_set=["b", "a"], mostly=0.5),
    ]
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(plain))

    def s():
        return objects

    forms = [plain, str(tmp_path / "s.yaml"), s, lambda: plain]
    forms.append(gx.ExpectationSuite(name="s", expectations=objects))
    assert [load_suite(form) for form in forms] == [plain] * len(forms)
    assert load_suite(objects)["expectations"] == plain["expectations"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (entry("nonsense"), "expect_nonsense"),
        (expectation("info", nonsense=1), "nonsense"),
        (expectation("nonsense"), "Invalid severity 'nonsense'"),
        ("nonsense", "Expected a mapping"),
    ],
)
def test_wrong_entries_are_named(wrong, message):
    with pytest.raises(ParameterError, match=message):
        load_suite([expectation("info"), wrong])


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        (expectation("info"), {"n"}),
        (entry("column_pair_values_to_be_equal", column_A="a", column_B="b"), {"a", "b"}),
        (entry("compound_columns_to_be_unique", column_list=["a", "b"]), {"a", "b"}),
        (entry("table_row_count_to_equal", value=1), set()),
        (expectation("info", row_condition="a > 1"), None),
        ({"type": "unexpected_rows_expectation", "kwargs": {"unexpected_rows_query": "q"}}, None),
    ],
)
def test_needed_columns_are_known_or_said_to_be_unknown(given, needed):
    assert columns_of(given) == needed


def test_a_suite_narrows_to_the_columns_of_a_model():
    names = entry("table_columns_to_match_set", column_set=["n", "label"], exact_match=True)
    ordered = entry("table_columns_to_match_ordered_list", column_list=["label", "n"])
    pair = entry("column_pair_values_to_be_equal", column_A="n", column_B="label")
    count = entry("table_row_count_to_equal", value=1)
    suite = {"name": "s", "expectations": [names, ordered, pair, count, expectation("info")]}
    kept = entry("table_columns_to_match_set", column_set=["n"], exact_match=False)
    assert for_columns(suite, ["n", "other"]) == {
        "name": "s",
        "expectations": [kept, kept, expectation("info")],
    }
    with pytest.raises(ParameterError, match=r"nothing of the columns \['other'\]"):
        for_columns(suite, ["other"])


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump])
def test_a_suite_is_yaml_or_json(tmp_path, write):
    suite = {"name": "s", "expectations": [expectation("info")]}
    (tmp_path / "suite").write_text(write(suite))
    assert load_suite(str(tmp_path / "suite")) == suite


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "an existing file"),
        ("name: [", "neither YAML nor JSON"),
        (b"\x80", "neither YAML nor JSON"),
        ("name: s", "no list `expectations`"),
        ("[]", "no list `expectations`"),
        ("expectations: []", "no list `expectations`"),
    ],
)
def test_what_is_no_suite_is_named(tmp_path: Path, text, message):
    path = tmp_path / "suite.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ParameterError, match=message) as error:
        load_suite(str(path))
    assert str(path) in str(error.value)
