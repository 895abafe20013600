"""The replay of the flights by the real steps: the same each time, with Feast's own features."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.steps.features.historical import historical_features
from airflow_mlops_provider.steps.features.repo import apply_features
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
from flights.columns import ENTITY, FEATURES
from flights.landing import MONTHS
from flights.replay import replay
from flights.replay_data import flights_between, land_year
from flights.replay_page import page
from flights.settings import FEATURE_REPO, FEATURE_SERVICE

pytestmark = pytest.mark.slow


def test_a_short_year_is_the_same_twice():
    first, second = (replay(MONTHS[:4], first=2) for _ in range(2))
    told = [page(each).rpartition("Made by")[0] for each in (first, second)]
    assert told[0] == told[1]
    assert [each.trainings for each in first.courses][:2] == [0, 1]
    for course in first.courses:
        assert [each.month for each in course.months] == ["2013-03", "2013-04"]
        for each, figures in zip(course.months, course.figures, strict=True):
            report = each.live.report
            assert 0.9 < report.n_labelled / report.n_predictions < 1, "some never arrive"
            assert report.n_labelled <= figures.n, "some landed after the look"
            assert report.error_rate == 0
            assert 0.6 < figures.auc.value < 0.85
            assert report.performance["auc"].value == pytest.approx(figures.auc.value, abs=0.01)


def test_features_are_what_feast_joins(workspace, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", json.dumps({"conn_type": "feast"}))
    land_year(workspace, MONTHS[:2])
    ours = flights_between(workspace, "2013-02-01", "2013-03-01").set_index(ENTITY)
    store = FeastHook(repo_path=FEATURE_REPO).get_conn()
    apply_features(store, FEATURE_REPO)
    flights = pd.read_parquet(f"{workspace}/landing/flights/2013-02.parquet")
    entities = write_dataset(flights, "flights", workspace, "test")
    joined = historical_features(
        store, entities, name="joined", workspace=workspace, feature_service=FEATURE_SERVICE
    )
    theirs = read_dataset(joined).set_index(ENTITY).loc[ours.index]
    assert len(ours) == len(flights)
    pd.testing.assert_frame_equal(ours[FEATURES], theirs[FEATURES], check_dtype=False)
