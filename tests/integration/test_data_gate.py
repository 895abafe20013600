"""The suite of the flights on real months, whole and broken, and the way to a training set."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.steps.drift.compare import detect_drift
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.features.historical import historical_features
from airflow_mlops_provider.steps.features.repo import apply_features
from airflow_mlops_provider.steps.snapshot import read_dataset, snapshot_dataset, write_dataset
from airflow_mlops_provider.steps.suites import load_suite
from airflow_mlops_provider.steps.validate import validate
from flights.columns import CATEGORICAL, FEATURES, NUMERIC, TARGET, TIME
from flights.features import build_feature_sources
from flights.landing import MONTHS, flights_of, land_month
from flights.settings import FEATURE_REPO, FEATURE_SERVICE, SUITE


@pytest.fixture
def report_on(workspace):
    def reported(frame):
        ref = write_dataset(frame, "flights", workspace, "test")
        suite = load_suite(SUITE)
        return validate(ref, suite, suite_name="flights", workspace=workspace).report

    return reported


@pytest.mark.parametrize("months", [*[[month] for month in MONTHS], MONTHS[:3], MONTHS[-3:]])
def test_every_real_month_passes(report_on, months):
    report = report_on(pd.concat(map(flights_of, months)))
    assert report.failures == []
    assert report.outcome == "passed"


BROKEN = {
    "a missing column": (lambda f: f.drop(columns="distance"), "stop"),
    "a text for a number": (lambda f: f.assign(distance=f["distance"].astype(str)), "stop"),
    "an unknown airport": (lambda f: f.assign(origin="XXX"), "stop"),
    "a flight twice": (lambda f: pd.concat([f, f[:1]]), "stop"),
    "kilometres for miles": (
        lambda f: f.assign(distance=(f["distance"] * 1.609).astype("int64")),
        "retrain",
    ),
    "nearly all late": (lambda f: f.assign(late=1), "retrain"),
    "half a month": (lambda f: f[: len(f) // 2], "warn"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_it_catches(report_on, what):
    change, outcome = BROKEN[what]
    assert report_on(change(flights_of("2013-03"))).outcome == outcome


def test_features_joined_by_feast_tell_late_flights(workspace, monkeypatch, capsys):
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", '{"conn_type": "feast"}')
    for month in MONTHS[:3]:
        land_month(workspace, month)
    build_feature_sources(workspace)
    flights = snapshot_dataset(
        f"{workspace}/landing/flights/*.parquet",
        name="flights",
        workspace=workspace,
        time_column=TIME,
        window_start="2013-01-01",
        window_end="2013-04-01",
    )
    store = FeastHook(repo_path=FEATURE_REPO).get_conn()
    assert apply_features(store, FEATURE_REPO) == ["planes", "route_stats", "weather_by_origin"]
    joined = historical_features(
        store, flights, name="joined", workspace=workspace, feature_service=FEATURE_SERVICE
    )
    assert joined.n_rows == flights.n_rows
    frame = read_dataset(joined).dropna(subset=[TARGET])
    assert frame[NUMERIC].notna().mean().min() > 0.8
    before = frame[TIME] < "2013-03-01"
    inputs = frame[FEATURES].assign(
        **{name: frame[name].astype("category").cat.codes for name in CATEGORICAL}
    )
    model = HistGradientBoostingClassifier(random_state=0).fit(
        inputs[before], frame[before][TARGET]
    )
    score = roc_auc_score(frame[~before][TARGET], model.predict_proba(inputs[~before])[:, 1])
    with capsys.disabled():
        print(f" AUC on March {score:.3f}", end="")
    assert 0.6 < score < 0.85


def test_a_month_does_not_drift_from_itself_and_broken_inputs_do(workspace):
    columns = ["distance", "dep_hour", "day_of_week", *CATEGORICAL]
    ref = write_dataset(flights_of("2013-02"), "flights", workspace, "test")
    profile = profile_dataset(ref, columns, workspace)
    march = flights_of("2013-03")
    assert detect_drift(ref, profile).share_drifted == 0
    assert detect_drift(march, profile).verdict == "stable"
    broken = march.assign(distance=march["distance"] * 1.609, carrier=None)
    assert detect_drift(broken, profile).verdict == "drifted"
