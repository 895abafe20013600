from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.snapshot import write_dataset
from airflow_mlops_provider.steps.validate import load_suite, validate_dataset
from airflow_mlops_provider.workspace import read_json


def expectation(severity, column="n", maximum=2.0):
    return {
        "type": "expect_column_max_to_be_between",
        "kwargs": {"column": column, "max_value": maximum},
        "severity": severity,
    }


@pytest.fixture
def check(tmp_path):
    ref = write_dataset(pd.DataFrame({"n": [1, 2, 3]}), "d", str(tmp_path), "test")

    def checked(*expectations):
        return validate_dataset(
            ref, {"expectations": [*expectations]}, suite_name="s", workspace=str(tmp_path)
        )

    return checked


@pytest.mark.parametrize(
    ("failing", "outcome"),
    [
        ([], "passed"),
        (["info"], "warn"),
        (["info", "warning"], "retrain"),
        (["warning", "info", "critical"], "stop"),
    ],
)
def test_the_worst_failure_decides(check, failing, outcome):
    report = check(expectation("critical", maximum=3), *map(expectation, failing))
    assert report.outcome == outcome
    assert report.n_expectations == len(failing) + 1
    order = ["critical", "warning", "info"]
    assert [failure.severity for failure in report.failures] == sorted(failing, key=order.index)
    assert not any(failure.errored for failure in report.failures)


def test_what_cannot_be_evaluated_is_told_apart(check):
    (failure,) = check(expectation("warning", column="nonsense")).failures
    assert failure.errored
    assert "nonsense" in failure.detail


def test_the_report_is_stored_once_and_bounded(check, tmp_path):
    many = [expectation("info", maximum=-n) for n in range(60)]
    report = check(*many)
    assert check(*many) == report
    assert [read_json(str(path)) for path in tmp_path.glob("reports/validation/*.json")] == [
        report.to_xcom()
    ]
    assert len(report.failures) == 50
    assert len(json.dumps(report.to_xcom())) < 30_000


def test_numpy_answers_are_no_trouble(check):
    quantiles = {"quantiles": [0.5], "value_ranges": [[2, 2]]}
    report = check(
        {
            "type": "expect_column_quantile_values_to_be_between",
            "kwargs": {"column": "n", "quantile_ranges": quantiles},
            "severity": "critical",
        }
    )
    assert report.outcome == "passed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "expect_nonsense"}, "expect_nonsense not found"),
        ({"kwargs": {"column": "n", "nonsense": 1}}, "nonsense"),
        ({"severity": "nonsense"}, "Invalid severity 'nonsense'"),
    ],
)
def test_wrong_expectations_are_named_and_never_dropped(check, change, message):
    with pytest.raises(ParameterError, match=message):
        check(expectation("info"), {**expectation("info"), **change})


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
