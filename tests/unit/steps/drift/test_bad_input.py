"""Odd and broken data: each has a verdict, or an error that says what to do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.drift.compare import compare, detect_drift
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.snapshot import write_dataset

ROWS = 1_000


def reference(rows=ROWS):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": rng.normal(size=rows),
            "constant": 5.0,
            "nothing": pd.Series([None] * rows, dtype=object),
            "endless": rng.choice([-np.inf, 0.0, np.inf, np.nan], rows),
            "id": [f"naïve {number} 🙂" for number in range(rows)],
            "at": pd.date_range("2013", periods=rows, freq="min", tz="UTC"),
        }
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return str(tmp_path_factory.mktemp("ws"))


@pytest.fixture(scope="module")
def profile(workspace):
    ref = write_dataset(reference(), "reference", workspace, "test")
    return profile_dataset(ref, [*reference()], workspace)


def drifted(current, profile, **options):
    report = detect_drift(current, profile, **options)
    return {feature.feature for feature in report.features if feature.status == "drifted"}


def test_odd_columns_do_not_drift_from_their_like(profile):
    assert drifted(reference(), profile) == set()
    other_ids = [f"new {number}" for number in range(ROWS)]
    assert drifted(reference().assign(id=other_ids), profile) == set()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("constant", 4.999),
        ("constant", 5.001),
        ("constant", None),
        ("nothing", "something"),
        ("nothing", 1.5),
        ("endless", np.inf),
        ("x", -np.inf),
        ("x", None),
        ("at", None),
    ],
)
def test_a_value_that_takes_all_places_is_drift(profile, column, values):
    assert drifted(reference().assign(**{column: values}), profile) == {column}


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_rows_are_no_evidence(profile, tmp_path, workspace, rows):
    report = detect_drift(reference()[:rows], profile)
    assert (report.verdict, report.n_current) == ("insufficient_data", rows)
    reference()[:rows].to_parquet(tmp_path / "few.parquet")
    assert detect_drift(str(tmp_path / "few.parquet"), profile).verdict == report.verdict
    one = profile_dataset(write_dataset(reference(1), "one", workspace, "test"), None, workspace)
    assert detect_drift(reference(), one).verdict == "insufficient_data"


def test_times_are_compared_in_whatever_zone_and_unit_they_come(profile):
    times = pd.date_range("2013", periods=ROWS, freq="min", tz="UTC")
    zones = [UTC, timezone(timedelta(hours=9))]
    mixed = [time.to_pydatetime().astimezone(zones[n % 2]) for n, time in enumerate(times)]
    for at in (times.tz_convert("Asia/Tokyo"), times.tz_localize(None), times.as_unit("ns")):
        assert drifted(reference().assign(at=at), profile) == set()
    assert drifted(reference().assign(at=pd.Series(mixed, dtype=object)), profile) == set()
    assert drifted(reference().assign(at=datetime(2014, 1, 1, tzinfo=UTC)), profile) == {"at"}


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("x", "text", r"'x' has type string, expected numeric values like double"),
        ("id", 1.5, r"'id' has type double, expected categorical values like string"),
        ("at", 1, r"'at' has type int64, expected datetime values like timestamp"),
        ("x", [[1]] * ROWS, r"'x' has type list"),
        ("x", ["a", 1] * (ROWS // 2), r"'x' of the frame has values of mixed types"),
    ],
)
def test_values_of_another_kind_are_schema_skew(profile, column, values, message):
    with pytest.raises(DataError, match=message):
        detect_drift(reference().assign(**{column: values}), profile)


def test_columns_may_be_more_and_in_another_order_but_not_fewer_or_twice(profile):
    more = reference()[[*reversed([*reference()])]].assign(extra=[[1]] * ROWS)
    assert detect_drift(more, profile) == detect_drift(reference(), profile)
    with pytest.raises(DataError, match=r"no column \['x'\]"):
        detect_drift(reference().drop(columns="x"), profile)
    with pytest.raises(DataError, match=r"several columns named \['x'\]"):
        detect_drift(pd.concat([reference(), reference()[["x"]]], axis=1), profile)


def test_ten_thousand_levels_and_more_have_a_verdict(workspace):
    for levels in (10_000, 10_001):
        words = [f"ключ {number % levels}" for number in range(30_000)]
        ref = write_dataset(pd.DataFrame({"word": words}), "words", workspace, "test")
        profile = profile_dataset(ref, None, workspace)
        others = pd.DataFrame({"word": [f"other {word}" for word in words]})
        same, moved = (detect_drift(each, profile).features[0] for each in (ref, others))
        assert (same.status, same.psi) == ("stable", 0.0)
        # a profile that could not hold all levels cannot tell which ones are new
        known = levels == 10_000
        assert moved.status == ("drifted" if known else "stable")
        assert moved.unseen_rate == (1.0 if known else None)


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_truncated_file_is_named(profile, tmp_path, kept):
    path = tmp_path / "cut.parquet"
    pq.write_table(pa.Table.from_pandas(reference()), path, row_group_size=100)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(DataError, match=r"cut\.parquet"):
        detect_drift(str(path), profile)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "version 1, expected version 2"),
        ({"version": None}, "version None, expected"),
        ({"n": 7}, "counts of .* do not belong"),
        ({"n": "many"}, "is broken: Not a valid DriftProfile: n"),
        ({"features": {"x": {"kind": "colour"}}}, "is broken: .*features.x"),
        ({"segments": {"x": {"1": {}}}}, "counts of its segments do not belong"),
    ],
)
def test_a_broken_profile_says_what_is_wrong(profile, tmp_path, change, message):
    with open(profile) as file:
        content = json.load(file) | change
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        detect_drift(reference(), str(tmp_path / "p.json"))


def test_a_dataset_without_rows_or_columns_has_no_profile(workspace):
    ref = write_dataset(reference()[["at"]], "times", workspace, "test")
    with pytest.raises(DataError, match="no column of numbers, booleans or texts"):
        profile_dataset(ref, None, workspace)
    with pytest.raises(ParameterError, match="sample_rows"):
        profile_dataset(ref, ["at"], workspace, sample_rows=-1)


@pytest.mark.parametrize(
    "weights", [{"x": -1}, {"x": 0}, {"nonsense": 1}, {}, {"x": float("nan")}, {"x": float("inf")}]
)
def test_weights_out_of_range_are_refused(profile, weights):
    with pytest.raises(ParameterError, match="The weights parameter"):
        detect_drift(reference(), profile, weights=weights)


def test_a_classifier_needs_a_sample(profile):
    with pytest.raises(ParameterError, match="sample_rows=5000"):
        compare(reference(), profile, domain_classifier=True)
