from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.baseline import infer_suite, suite_yaml
from airflow_mlops_provider.steps.snapshot import write_dataset
from airflow_mlops_provider.steps.suites import load_suite
from airflow_mlops_provider.steps.validate import validate

VALUES = st.one_of(
    st.lists(st.none() | st.floats(), min_size=1, max_size=30),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30),
    st.lists(
        st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=30
    ),
    st.lists(st.none() | st.booleans(), min_size=1, max_size=30),
    st.lists(st.none() | st.datetimes().map(pd.Timestamp), min_size=1, max_size=30),
    st.lists(st.sampled_from([1, "a", 2.5, None]), min_size=1, max_size=30),
)


def outcome(data, suite, folder):
    report = validate(data, suite, suite_name="s", workspace=str(folder)).report
    return report.outcome, report.failures


@settings(max_examples=40, deadline=None)
@given(values=VALUES, name=st.sampled_from(["n", "größe ☃", "user_id"]), copies=st.integers(1, 9))
def test_a_dataset_passes_the_suite_inferred_from_it(values, name, copies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("w")
    frame = pd.DataFrame({name: values * copies})
    suite = infer_suite(frame, name="s")
    assert outcome(frame, suite, folder) == ("passed", [])
    (folder / "s.yaml").write_text(suite_yaml(suite), encoding="utf-8")
    assert load_suite(str(folder / "s.yaml")) == suite


def sample(seed, n=300):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user_id": rng.permutation(100 * n)[:n],
            "age": rng.integers(18, 90, n),
            "visits": rng.poisson(3, n),
            "spend": rng.lognormal(3, 1.5, n),
            "sparse": np.where(rng.random(n) < 0.5, np.nan, rng.normal(size=n)),
            "rarely_null": np.where(rng.random(n) < 0.003, np.nan, rng.integers(0, 99, n)),
            "origin": rng.choice(["EWR", "JFK", "größe ☃"], n, p=[0.6, 0.39, 0.01]),
            "many": rng.choice([f"level {number}" for number in range(10_000)], n),
            "flag": rng.random(n) < 0.3,
            "time": pd.date_range("2020", periods=n, tz="UTC", freq="min"),
            "nothing": None,
            "constant": 3.5,
        }
    )


def test_a_fresh_sample_of_the_same_distribution_passes(tmp_path):
    told = [
        outcome(sample(1_000 + seed), infer_suite(sample(seed), name="s"), tmp_path)
        for seed in range(40)
    ]
    assert sum(found != ("passed", []) for found in told) <= 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f.drop(columns="age"), "stop"),
        (lambda f: f.assign(age=f["age"].astype(str)), "stop"),
        (lambda f: f.assign(user_id=1), "stop"),
        (lambda f: f.assign(age=f["age"] * 10), "retrain"),
        (lambda f: f.assign(origin="XXX"), "retrain"),
        (lambda f: f.assign(spend=f["spend"].where(f["flag"])), "retrain"),
        (lambda f: f[:60], "warn"),
    ],
)
def test_the_suite_catches(tmp_path, change, expected):
    assert outcome(change(sample(1)), infer_suite(sample(0), name="s"), tmp_path)[0] == expected


def test_a_stored_dataset_gives_a_suite_of_some_columns(tmp_path):
    ref = write_dataset(sample(0), "d", str(tmp_path), "test")
    suite = infer_suite(ref, name="s", columns=["age", "time"])
    spoken = {entry["kwargs"].get("column") for entry in suite["expectations"]}
    assert spoken == {None, "age", "time"}
    assert outcome(ref, suite, tmp_path) == ("passed", [])


@pytest.mark.parametrize(
    ("frame", "columns", "message"),
    [
        (pd.DataFrame({"n": []}), None, "no rows to infer"),
        (pd.DataFrame({"n": [1]}), ["m"], r"no column \['m'\]"),
        (pd.DataFrame({1: [1]}), None, "no text as name"),
    ],
)
def test_what_gives_no_suite_is_named(frame, columns, message):
    with pytest.raises(DataError, match=message):
        infer_suite(frame, name="s", columns=columns)
