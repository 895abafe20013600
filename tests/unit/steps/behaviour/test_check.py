from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.records import BehaviourReport
from airflow_mlops_provider.steps.behaviour.check import check_behaviour
from airflow_mlops_provider.steps.behaviour.page import behaviour_page
from airflow_mlops_provider.steps.behaviour.sampling import sample
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
from tests.training import train

UP = {"kind": "directional", "name": "up", "feature": "hour", "by": [0.5, 1], "n": 200}
DOWN = {**UP, "name": "down", "direction": "down"}
BROKEN = {**UP, "name": "broken", "feature": "nonsense"}
WARNING = {"severity": "warning"}


@pytest.fixture
def model_uri(run, dataset):
    return train(dataset, LogisticRegression, run=run, features=["hour"], target="late").model_uri


@pytest.fixture
def check(model_uri, holdout, tmp_path):
    def run_tests(*tests, **changes):
        given = {"model_uri": model_uri, "dataset": holdout, "tests": list(tests)}
        return check_behaviour(**{**given, **changes}, workspace=str(tmp_path))

    return run_tests


@pytest.mark.parametrize(
    ("tests", "outcome"),
    [
        ([UP], "passed"),
        ([UP, DOWN], "failed"),
        ([UP, BROKEN], "failed"),
        ([UP, {**DOWN, **WARNING}, {**BROKEN, **WARNING}], "passed"),
    ],
)
def test_critical_tests_decide(check, tests, outcome):
    report = check(*tests).report
    assert (report.outcome, report.n_tests) == (outcome, len(tests))
    assert BehaviourReport.from_xcom(json.loads(json.dumps(report.to_xcom()))) == report
    stored = json.loads(Path(report.report_uri).read_text())
    assert [each["name"] for each in stored["tests"]] == [each.name for each in report.tests]


def test_failed_is_told_from_errored_and_the_worst_come_first(check):
    report = check(UP, {**BROKEN, **WARNING}, DOWN).report
    assert [(each.name, each.outcome) for each in report.tests] == [
        ("down", "failed"),
        ("broken", "errored"),
        ("up", "passed"),
    ]
    assert (report.n_failed, report.n_errored) == (1, 1)
    assert "nonsense" in report.tests[1].detail


def test_checking_twice_gives_the_same_report_and_one_file(check, tmp_path):
    noise = {"kind": "noise", "name": "noise", "size": 0.2, "n": 100, "max_failure_rate": 0.5}
    assert check(UP, noise).report == check(UP, noise).report
    assert len(list((tmp_path / "reports" / "behaviour").iterdir())) == 1


def test_the_record_is_bounded_and_the_file_is_whole(check):
    tests = [{**DOWN, "name": f"{'long ' * 100}{n}", "n": 50} for n in range(60)]
    report = check(*tests).report
    assert len(report.tests) == 50
    assert len(json.dumps(report.to_xcom())) < 200_000
    assert len(json.loads(Path(report.report_uri).read_text())["tests"]) == report.n_tests == 60


def test_the_page_is_text_and_fetches_nothing(check):
    html = behaviour_page(check({**UP, "name": "<b>up</b>"}, DOWN, BROKEN))
    assert not re.search("https?://|<script|<link|<b>", html)
    assert re.findall("<h2>(.*?) <span", html) == ["down", "broken"]
    assert "200 of 200 rows break it" in html


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"tests": []}, ParameterError, "no list `tests`"),
        ({"model_uri": "models:/nobody/1"}, ModelError, "nobody"),
    ],
)
def test_what_cannot_be_checked_at_all_is_named(check, changes, error, said):
    with pytest.raises(error, match=said):
        check(UP, **changes)


def test_rows_without_the_models_features_are_refused(check, holdout, tmp_path):
    narrow = read_dataset(holdout).drop(columns="hour")
    with pytest.raises(DataError, match="'hour'"):
        check(UP, dataset=write_dataset(narrow, "narrow", str(tmp_path), "test"))
    with pytest.raises(DataError, match="No file"):
        check(UP, dataset=replace(holdout, uri=f"{tmp_path}/gone.parquet"))


def test_any_pyfunc_model_is_asked(check, client, experiment):
    class Words(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input["origin"].str.len().astype(float)

    rows = pd.DataFrame({"origin": ["EWR"]})
    with mlflow.start_run(experiment_id=experiment):
        uri = mlflow.pyfunc.log_model(
            name="words",
            python_model=Words(),
            signature=infer_signature(rows, np.array([3.0])),
            pip_requirements=["mlflow"],
        ).model_uri
    lower = {"kind": "invariance", "name": "case", "transform": {"lower": {"feature": "origin"}}}
    missing = {"kind": "missing", "name": "missing"}
    results = check(lower, missing, model_uri=uri).results
    assert {each.name: each.outcome for each in results} == {"case": "passed", "missing": "failed"}


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(tmp_path):
    path = str(tmp_path / "rows.parquet")
    pd.DataFrame({"x": range(200_000)}).to_parquet(path, row_group_size=10_000)
    large = sample(path, ["x"], 500, seed=1)["x"]
    assert sample(path, ["x"], 50, seed=1)["x"].tolist() == large.head(50).tolist()
    assert large.is_unique
    assert large.mean() == pytest.approx(100_000, rel=0.1)
    assert len(sample(path, ["x"], 100_000, seed=1)) == 100_000
    assert len(sample(path, ["x"], 900_000, seed=1)) == 200_000


def test_no_rows_are_an_error(tmp_path):
    path = str(tmp_path / "rows.parquet")
    pd.DataFrame({"x": [1.0]}).head(0).to_parquet(path)
    with pytest.raises(DataError, match="no rows"):
        sample(path, ["x"], 5, seed=0)
