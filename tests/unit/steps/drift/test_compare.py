from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.drift.compare import detect_drift
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.snapshot import write_dataset
from airflow_mlops_provider.workspace import read_json


def sample(rows, seed, shift=0.0, missing=0.0, levels=40):
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, rows)
    return pd.DataFrame(
        {
            "x": np.where(rng.random(rows) < missing, np.nan, x),
            "few": rng.integers(1, 4, rows),
            "word": rng.choice([f"w{n}" for n in range(levels)], rows),
            "flag": rng.random(rows) < 0.2,
            "at": pd.date_range("2013", periods=rows, freq="min", tz="UTC"),
        }
    )


@pytest.fixture
def profile(tmp_path):
    ref = write_dataset(sample(20_000, 0), "reference", str(tmp_path), "test")
    return profile_dataset(ref, None, str(tmp_path))


def statuses(report):
    return {feature.feature: feature.status for feature in report.features}


def test_a_profile_holds_bins_and_counts_of_all_suitable_columns(profile):
    content = read_json(profile)
    assert sorted(content["features"]) == ["few", "flag", "word", "x"]
    assert len(content["features"]["x"]["bins"]) == 9
    assert len(content["features"]["word"]["levels"]) == 40
    assert sorted(content["features"]["flag"]["levels"]) == ["false", "true"]
    assert {sum(each["counts"]) for each in content["features"].values()} == {20_000}


def test_the_same_rows_give_one_profile_whatever_their_order(tmp_path, profile):
    shuffled = sample(20_000, 0).sample(frac=1, random_state=0)
    ref = write_dataset(shuffled, "shuffled", str(tmp_path), "test")
    assert profile_dataset(ref, None, str(tmp_path)) == profile


@pytest.mark.parametrize(
    ("current", "drifted"),
    [
        (sample(5_000, 1), set()),
        (sample(5_000, 1, shift=0.5), {"x"}),
        (sample(5_000, 1, missing=0.2), {"x"}),
        (sample(5_000, 1, levels=60), {"word"}),
        (sample(5_000, 1).assign(word=None), {"word"}),
        (sample(5_000, 1).assign(few=7), {"few"}),
        (sample(5_000, 1).assign(few=lambda frame: frame["few"] - 0.1), {"few"}),
        (sample(5_000, 1).assign(few=lambda frame: frame["few"].astype(object)), set()),
        (sample(5_000, 1).assign(few=lambda frame: frame["few"].map(Decimal)), set()),
        (sample(5_000, 1).assign(x=np.inf), {"x"}),
        (sample(5_000, 1).assign(word="naïve 🙂"), {"word"}),
        (sample(5_000, 1).assign(x=None, word=np.nan), {"x", "word"}),
        # significant at this size, and too small to matter
        (sample(200_000, 1, shift=0.05), set()),
    ],
)
def test_it_finds_what_moved_and_only_that(profile, current, drifted):
    report = detect_drift(current, profile)
    assert {name for name, status in statuses(report).items() if status == "drifted"} == drifted
    assert report.share_drifted == len(drifted) / 4
    assert report.verdict == ("drifted" if len(drifted) > 1 else "stable")


def test_the_share_of_drifted_features_decides(profile, tmp_path):
    moved = write_dataset(sample(5_000, 1, shift=0.5, levels=60), "moved", str(tmp_path), "test")
    report = detect_drift(moved, profile)
    assert report.verdict == "drifted"
    assert report.dataset_uri == moved.uri
    assert (report.n_reference, report.n_current) == (20_000, 5_000)
    assert detect_drift(moved, profile, max_share=0.6).verdict == "stable"
    assert detect_drift(moved, profile, columns=["few"]).verdict == "stable"


@pytest.mark.parametrize("rows", [0, 499])
def test_too_few_rows_are_no_evidence(profile, rows):
    report = detect_drift(sample(rows, 1, shift=3), profile, dataset_uri="today")
    assert report.verdict == "insufficient_data"
    assert set(statuses(report).values()) == {"insufficient_data"}
    assert report.dataset_uri == "today"


def test_null_rates_are_told_apart_from_values(profile):
    report = detect_drift(sample(5_000, 1, missing=0.2), profile)
    deltas = {feature.feature: feature.null_rate_delta for feature in report.features}
    assert deltas["x"] == pytest.approx(0.2, abs=0.02)
    assert deltas["few"] == 0


VALUES = st.lists(st.none() | st.floats() | st.integers(-3, 3), min_size=1, max_size=30)
WORDS = st.lists(st.none() | st.text(max_size=2), min_size=1, max_size=30)
FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def resized(values, words, rows):
    return pd.DataFrame(
        {
            "value": pd.Series(np.resize(np.array(values, dtype=float), rows)),
            "word": pd.Series(np.resize(np.array(words, dtype=object), rows), dtype=object),
        }
    )


@FEW
@given(values=VALUES, words=WORDS)
def test_a_dataset_never_drifts_from_itself(tmp_path, values, words):
    ref = write_dataset(resized(values, words, 900), "d", str(tmp_path), "test")
    report = detect_drift(ref, profile_dataset(ref, ["value", "word"], str(tmp_path)))
    assert report.verdict == "stable"
    assert {feature.psi for feature in report.features} == {0.0}


@FEW
@given(
    values=VALUES,
    words=WORDS,
    later=VALUES,
    seed=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 700), max_size=3),
)
def test_order_files_and_copies_of_files_do_not_change_the_report(
    tmp_path_factory, values, words, later, seed, cuts
):
    folder = tmp_path_factory.mktemp("shards")
    ref = write_dataset(resized(values, words, 900), "d", str(folder), "test")
    profile = profile_dataset(ref, None, str(folder), segments=["word"], sample_rows=50)
    current = resized(later, words[:1], 700)
    shuffled = current.sample(frac=1, random_state=seed)
    ends = [0, *sorted(cuts), len(shuffled)]
    (folder / "shards").mkdir()
    for start, end in pairwise(ends):
        for copy in range(2):
            shuffled[start:end].to_parquet(folder / "shards" / f"{start}-{end}-{copy}.parquet")
    # equal shards are one, so equal rows must not fill two of them
    distinct = len({shuffled[start:end].to_json() for start, end in pairwise(ends)})
    if distinct == len(ends) - 1:
        whole, shards = (
            detect_drift(source, profile, dataset_uri="d")
            for source in (current, f"{folder}/shards")
        )
        assert whole == shards


def test_false_alarms_are_rare_on_small_samples_of_many_categories(tmp_path):
    profiles = [
        profile_dataset(
            write_dataset(sample(600, seed, levels=200), "d", str(tmp_path), "test"),
            ["word"],
            str(tmp_path),
        )
        for seed in range(20)
    ]
    reports = [
        detect_drift(sample(6_000, 100 + seed, levels=200), profile)
        for seed, profile in enumerate(profiles)
    ]
    assert min(report.features[0].psi for report in reports) > 0.1
    assert [report.verdict for report in reports].count("drifted") <= 1


def test_what_cannot_be_compared_is_named(tmp_path, profile):
    with pytest.raises(DataError, match=r"no column.*'x'"):
        detect_drift(sample(600, 1).drop(columns="x"), profile)
    with pytest.raises(DataError, match=r"no features.*nonsense"):
        detect_drift(sample(600, 1), profile, columns=["nonsense"])
    with pytest.raises(DataError, match="No drift profile at"):
        detect_drift(sample(600, 1), f"{tmp_path}/none.json")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(DataError, match=r"other\.json is no drift profile"):
        detect_drift(sample(600, 1), f"{tmp_path}/other.json")
    with pytest.raises(ParameterError, match="max_share"):
        detect_drift(sample(600, 1), profile, max_share=0)
    ref = write_dataset(sample(10, 0).assign(raw=b"1"), "d", str(tmp_path), "test")
    with pytest.raises(DataError, match="'raw' has type binary"):
        profile_dataset(ref, ["x", "raw"], str(tmp_path))
    with pytest.raises(DataError, match=r"no column \['nonsense'\]. It has \['x'"):
        profile_dataset(ref, ["nonsense"], str(tmp_path))
