from __future__ import annotations

import json

import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import PredictionBatchRef
from airflow_mlops_provider.steps import batches
from airflow_mlops_provider.steps import validate as validating
from airflow_mlops_provider.steps.snapshot import write_dataset
from airflow_mlops_provider.steps.validate import validate
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
    return lambda *expectations: ask(ref, tmp_path, *expectations)


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
    (path,) = tmp_path.glob("reports/validation/*.json")
    assert str(path) == report.report_uri
    stored = read_json(str(path))
    assert len(stored.pop("results")) == report.n_failed == 60
    assert {**stored, "report_uri": report.report_uri} == report.to_xcom()
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


def ask(data, tmp_path, *entries, columns=None):
    suite = {"expectations": [*entries]}
    return validate(data, suite, suite_name="s", workspace=str(tmp_path), columns=columns).report


def entry(kind, severity="critical", **kwargs):
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": severity}


NAMES = entry("table_columns_to_match_set", column_set=["n", "text"], exact_match=True)
ROWS = entry("table_row_count_to_equal", value=3)
MAXIMUM = entry("column_max_to_be_between", column="n", max_value=3)


@pytest.mark.parametrize("entries", [[NAMES], [ROWS], [NAMES, ROWS, MAXIMUM]])
@pytest.mark.parametrize("kind", ["parquet", "csv", "glob", "dataset", "frame"])
def test_only_needed_columns_are_read_and_tables_are_still_right(
    tmp_path, monkeypatch, kind, entries
):
    frame = pd.DataFrame({"n": [1, 2, 3], "text": ["a", "b", None]})
    frame.to_parquet(tmp_path / "rows.parquet")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    data = {
        "parquet": str(tmp_path / "rows.parquet"),
        "csv": str(tmp_path / "rows.csv"),
        "glob": str(tmp_path / "*.parquet"),
        "dataset": write_dataset(frame, "d", str(tmp_path), "test"),
        "frame": frame,
    }[kind]
    read = []
    monkeypatch.setattr(batches, "frame_batch", lambda rows: read.append(rows) or kept(rows))
    kept = validating.frame_batch
    assert ask(data, tmp_path, *entries).outcome == "passed"
    if kind != "frame":
        assert all(list(rows.columns) == ["n"] for rows in read if len(rows))


def test_all_columns_are_read_if_it_is_unknown_which_are_needed(tmp_path):
    frame = pd.DataFrame({"n": [1, 9], "text": ["a", "b"]})
    ref = write_dataset(frame, "d", str(tmp_path), "test")
    kwargs = {"row_condition": 'text=="a"', "condition_parser": "pandas"}
    limited = entry("column_max_to_be_between", column="n", max_value=3, **kwargs)
    assert ask(ref, tmp_path, limited).outcome == "passed"


def test_live_answered_inputs_are_asked_by_the_part_of_the_suite_about_them(tmp_path):
    log = pd.DataFrame(
        {
            "request_id": ["a", "b", "b", "c", "d"],
            "row": 0,
            "attempt": [1, 1, 2, 1, 1],
            "status": [200, 500, 200, 200, 400],
            "shadow": [False, False, False, True, False],
            "input.n": [1.0, 99.0, 2.0, 99.0, 99.0],
        }
    )
    log.to_parquet(tmp_path / "log.parquet")
    batch = PredictionBatchRef(
        uri=str(tmp_path / "log.parquet"), n_rows=5, file_hash="f", model_versions=[]
    )
    label = entry("column_values_to_not_be_null", column="label")
    report = ask(batch, tmp_path, MAXIMUM, NAMES, ROWS, label)
    assert (report.outcome, report.n_expectations) == ("passed", 2)
    assert ask(batch, tmp_path, MAXIMUM, NAMES, columns=["n", "text"]).outcome == "stop"
    log[log["shadow"]].to_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match="no rows to validate"):
        ask(batch, tmp_path, MAXIMUM)


def test_an_expectation_at_fault_itself_is_no_failure_of_the_data(tmp_path):
    frame = pd.DataFrame({"text": ["a"]})
    with pytest.raises(ParameterError, match=r"regex.*on no data: correct its kwargs"):
        ask(frame, tmp_path, entry("column_values_to_match_regex", column="text", regex="["))
    mixed = ask(frame, tmp_path, entry("column_mean_to_be_between", column="text", max_value=1))
    assert (mixed.outcome, mixed.n_errored, mixed.n_failed) == ("stop", 1, 0)


WHOLE = entry("column_values_to_be_between", "warning", column="n", min_value=0, max_value=9)


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([1], "passed"),
        ([None, None], "passed"),
        ([5, 5, 5], "passed"),
        ([1.0, float("inf")], "retrain"),
        ([float("nan"), 1.0], "passed"),
        ([1, "größe ☃"], "retrain"),
        ([f"☃{number}" for number in range(10_000)], "retrain"),
    ],
)
def test_odd_values_have_a_defined_outcome(tmp_path, values, outcome):
    report = ask(pd.DataFrame({"n": values}), tmp_path, WHOLE)
    assert report.outcome == outcome
    assert len(json.dumps(report.to_xcom())) < 5_000


def test_times_of_nanoseconds_and_mixed_zones_have_a_defined_outcome(tmp_path):
    zones = ["2020-01-01T00:00:00.123456789+00:00", "2020-01-01T00:00:00+02:00"]
    frame = pd.DataFrame({"n": [pd.Timestamp(zone) for zone in zones]})
    assert ask(frame, tmp_path, entry("column_values_to_not_be_null", column="n")).outcome == (
        "passed"
    )


@pytest.mark.parametrize(
    ("columns", "outcome"),
    [(["text", "n"], "passed"), (["n"], "stop"), (["n", "text", "x"], "stop")],
)
def test_columns_may_be_reordered_but_not_missing_or_extra(tmp_path, columns, outcome):
    assert ask(pd.DataFrame([range(len(columns))], columns=columns), tmp_path, NAMES).outcome == (
        outcome
    )


def test_data_that_cannot_be_asked_are_named(tmp_path):
    broken = tmp_path / "broken.parquet"
    broken.write_text("no Parquet")
    twice = pd.DataFrame([[1, 2]], columns=["n", "n"])
    for data, message in (
        (str(broken), "write it again"),
        (str(tmp_path / "nothing.csv"), "No file at"),
        (pd.DataFrame({"n": []}), "no rows to validate"),
        (twice, r"several columns named \['n'\]"),
    ):
        with pytest.raises(DataError, match=message):
            ask(data, tmp_path, MAXIMUM)
    with pytest.raises(ParameterError, match="a DatasetRef, PredictionBatchRef"):
        ask(7, tmp_path, MAXIMUM)
