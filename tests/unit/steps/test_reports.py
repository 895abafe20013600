from dataclasses import replace
from datetime import UTC, datetime

import pytest

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import MonitoringReport, SegmentDrift
from airflow_mlops_provider.steps.reports import find_signal, publish_report, shortened
from tests.drift_reports import drift_report, feature_drift

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


def test_a_shortened_report_keeps_only_what_drifted():
    features = [feature_drift(f"x{i}", psi=0.3 if i % 2 else 0.0) for i in range(100)]
    segments = [
        SegmentDrift(
            column="origin",
            value=str(i),
            verdict="drifted" if i % 2 else "stable",
            share_drifted=0.5,
            n=1_000,
            drifted=[f"x{j}" for j in range(50)],
        )
        for i in range(100)
    ]
    drift = drift_report("drifted", *features, segments=segments)
    short = shortened(replace(REPORT, drift=drift))
    odd = [str(i) for i in range(1, 40, 2)]
    assert [item.feature for item in short.drift.features] == [f"x{i}" for i in odd]
    assert [item.value for item in short.drift.segments] == odd
    assert {len(item.drifted) for item in short.drift.segments} == {5}
    assert shortened(REPORT) == REPORT
