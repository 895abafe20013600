"""What is said of parts of the rows, of all features at once, and by weight."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.steps.drift.compare import compare, detect_drift, reference_sample
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.snapshot import write_dataset


def flights(rows, seed, correlation=0.9):
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, rows))
    return pd.DataFrame(
        {
            "origin": rng.choice(["EWR", "JFK", "LGA"], rows, p=[0.5, 0.4, 0.1]),
            "hour": rng.integers(0, 24, rows),
            "x": x,
            "y": correlation * x + np.sqrt(1 - correlation**2) * noise,
        }
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return str(tmp_path_factory.mktemp("ws"))


@pytest.fixture(scope="module")
def profile(workspace):
    ref = write_dataset(flights(20_000, 0), "flights", workspace, "test")
    return profile_dataset(ref, None, workspace, segments=["origin", "hour"], sample_rows=5_000)


def test_drift_of_one_segment_is_told_and_does_not_decide(profile):
    current = flights(5_000, 1)
    current.loc[current["origin"] == "JFK", "x"] += 1
    current.loc[current["origin"] == "JFK", "y"] -= 2
    report = detect_drift(current, profile, max_share=0.5)
    verdicts = {(each.column, each.value): each.verdict for each in report.segments}
    assert verdicts["origin", "JFK"] == "drifted"
    assert verdicts["origin", "EWR"] == "stable"
    hours = {verdict for (column, _), verdict in verdicts.items() if column == "hour"}
    assert hours == {"insufficient_data"}
    # 24 hours, of which the 20 commonest are looked at
    assert len(verdicts) == 3 + 20
    first = report.segments[0]
    assert (first.value, first.drifted) == ("JFK", ["y", "x"])
    assert first.n == (current["origin"] == "JFK").sum()
    assert report.verdict == "drifted"
    assert detect_drift(current, profile, max_share=0.6).verdict == "stable"


def test_without_drift_no_segment_drifts(profile):
    report = detect_drift(flights(20_000, 1), profile)
    assert {each.verdict for each in report.segments} == {"stable"}


def test_numbers_of_a_segment_column_may_come_as_floats(profile):
    current = flights(20_000, 1)
    whole = detect_drift(current, profile)
    assert detect_drift(current.astype({"hour": float}), profile).segments == whole.segments


def test_weights_say_which_features_count(profile):
    current = flights(5_000, 1).assign(x=9.0)
    assert detect_drift(current, profile).share_drifted == 0.25
    assert detect_drift(current, profile, weights={"x": 1, "y": 3}).share_drifted == 0.25
    assert detect_drift(current, profile, weights={"x": 3, "y": 1}).verdict == "drifted"
    assert detect_drift(current, profile, weights={"y": 2}).share_drifted == 0.0


def test_a_classifier_sees_a_change_of_correlation_that_no_feature_shows(profile):
    current = flights(5_000, 1, correlation=-0.9)
    report = detect_drift(current, profile, domain_classifier=True)
    assert {each.status for each in report.features} == {"stable"}
    assert report.verdict == "drifted"
    assert report.domain_auc.low > 0.6
    alike = detect_drift(flights(5_000, 2), profile, domain_classifier=True)
    assert alike.verdict == "stable"
    assert alike.domain_auc.value == pytest.approx(0.5, abs=0.05)
    few = detect_drift(flights(100, 2), profile, domain_classifier=True)
    assert few.domain_auc is None


def test_neither_new_identifiers_nor_times_tell_rows_apart(workspace):
    def rows(seed):
        ids = [f"{seed}-{number}" for number in range(3_000)]
        at = pd.date_range(f"{2013 + seed}", periods=3_000, freq="min", tz="UTC")
        return flights(3_000, seed).assign(id=ids, at=at)

    ref = write_dataset(rows(0), "ids", workspace, "test")
    profile = profile_dataset(ref, [*rows(0)], workspace, sample_rows=3_000)
    report = detect_drift(rows(1), profile, domain_classifier=True)
    assert report.domain_auc.value == pytest.approx(0.5, abs=0.05)
    times = detect_drift(rows(1), profile, columns=["at"], domain_classifier=True)
    assert (times.domain_auc, times.verdict) == (None, "drifted")


def test_the_sample_is_of_the_reference_whatever_its_order(workspace, profile):
    sample = reference_sample(profile)
    assert len(sample) == 5_000
    assert len(sample.merge(flights(20_000, 0))) == 5_000
    assert sample["x"].mean() == pytest.approx(0, abs=0.05)
    shuffled = flights(20_000, 0).sample(frac=1, random_state=0)
    ref = write_dataset(shuffled, "other", workspace, "test")
    again = profile_dataset(ref, None, workspace, segments=["origin", "hour"], sample_rows=5_000)
    assert again == profile
    assert reference_sample(profile_dataset(ref, None, workspace)) is None


def test_equal_rows_are_sampled_as_often_as_they_come(workspace):
    rows = pd.DataFrame({"x": np.repeat([1.0, 2.0, 3.0, 4.0], [500, 300, 150, 50])})
    ref = write_dataset(rows, "few", workspace, "test")
    sample = reference_sample(profile_dataset(ref, None, workspace, sample_rows=400))
    shares = sample["x"].value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx({1.0: 0.5, 2.0: 0.3, 3.0: 0.15, 4.0: 0.05}, abs=0.06)
    whole = reference_sample(profile_dataset(ref, None, workspace, sample_rows=2_000))
    assert sorted(whole["x"]) == sorted(rows["x"])


def test_evidence_has_a_label_and_two_counts_a_bin(profile):
    evidence = compare(flights(1_000, 1).assign(origin="ORD", hour=None), profile).evidence
    origin, hour, x = evidence["origin"], evidence["hour"], evidence["x"]
    assert [*origin.labels] == ["EWR", "JFK", "LGA", "other", "unseen", "missing"]
    assert [*origin.current] == [0, 0, 0, 0, 1_000, 0]
    assert (hour.labels[-1], hour.current[-1]) == ("missing", 1_000)
    assert len(x.labels) == len(x.reference) == len(x.current) == 11
    assert (x.reference.sum(), x.current.sum()) == (20_000, 1_000)
    assert x.labels[0].startswith("up to -1.2")
