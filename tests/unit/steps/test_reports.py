from dataclasses import replace
from datetime import UTC, datetime

import pytest

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import DriftReport, FeatureDrift, MonitoringReport
from airflow_mlops_provider.steps.reports import find_signal, publish_report, shortened

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
REPORT = MonitoringReport(
    endpoint="flights",
    n_predictions=10,
    n_labelled=0,
    error_rate=0.0,
    latency_p95_ms=None,
    drift=None,
    performance={},
    signals=["drift"],
    reasons=["The inputs are drifted."],
)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, True),
        ({"signals": ["drift"]}, True),
        ({"signals": ["performance"]}, False),
        ({"newer_than": "2013-07-01T11:59:59+00:00"}, True),
        ({"newer_than": "2013-07-01T11:59:59"}, True),
        ({"newer_than": "2013-07-01T12:00:00+00:00"}, False),
        ({"newer_than": "2013-07-01T13:00:00+02:00"}, True),
        ({"newer_than": ""}, True),
    ],
)
def test_a_report_is_found_by_its_signals_and_time(workspace, options, found):
    publish_report(REPORT, workspace=workspace, reported_at=NOON)
    assert find_signal(workspace, "flights", **options) == (REPORT if found else None)


def test_only_the_newest_report_of_the_endpoint_counts(workspace):
    assert find_signal(workspace, "flights") is None
    publish_report(REPORT, workspace=workspace, reported_at=NOON)
    assert find_signal(workspace, "trains") is None
    publish_report(replace(REPORT, signals=[]), workspace=workspace, reported_at=NOON)
    assert find_signal(workspace, "flights") is None


@pytest.mark.parametrize(
    ("endpoint", "options", "name"),
    [
        ("../flights", {}, "endpoint"),
        ("flights", {"signals": ["fire"]}, "signals"),
        ("flights", {"signals": []}, "signals"),
        ("flights", {"newer_than": "noon"}, "newer_than"),
    ],
)
def test_a_parameter_out_of_range_is_named(workspace, endpoint, options, name):
    with pytest.raises(ParameterError, match=f"The {name} parameter"):
        find_signal(workspace, endpoint, **options)


def test_a_shortened_report_keeps_the_drifted_features_only():
    features = [
        FeatureDrift(
            feature=f"x{i}",
            kind="numeric",
            status="drifted" if i % 2 else "stable",
            level=None,
            n=1000,
            psi=0.3,
            threshold=0.1,
            p_value=0.0,
            ks=0.2,
            wasserstein=0.5,
            js=0.2,
            null_rate_delta=0.0,
            unseen_rate=None,
        )
        for i in range(100)
    ]
    drift = DriftReport(
        dataset_uri="u",
        profile_uri="p",
        verdict="drifted",
        share_drifted=0.5,
        n_reference=1,
        n_current=1,
        n_features=100,
        features=features,
    )
    short = shortened(replace(REPORT, drift=drift))
    assert [item.feature for item in short.drift.features] == [f"x{i}" for i in range(1, 40, 2)]
    assert shortened(REPORT) == REPORT
