from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import Finding, MonitoringReport, SegmentDrift
from airflow_mlops_provider.steps.reports import (
    find_signal,
    newest_reports,
    previous_report,
    publish_report,
    shortened,
)
from airflow_mlops_provider.workspace import read_json, write_bytes
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
    published = publish_report(REPORT, workspace=workspace, reported_at=NOON)
    assert find_signal(workspace, "flights", **options) == (published if found else None)


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


CROSSED = {"ok": False, "raised": True, "unknown": False}


def of_window(hour, status="raised", signal="drift", model_uri=None):
    """Return a report on the hour that ends at ``hour``, as it is before it was published."""
    finding = Finding(signal=signal, status=status, reason="Because.", n=9, crossed=CROSSED[status])
    end = NOON + timedelta(hours=hour)
    return replace(
        REPORT,
        model_uri=model_uri,
        window_start=(end - timedelta(hours=1)).isoformat(),
        window_end=end.isoformat(),
        findings=[finding],
        signals=[signal] if status == "raised" else [],
    )


def published(workspace, hour, status="raised", consecutive=2, at=NOON, **changes):
    return publish_report(
        of_window(hour, status, **changes),
        workspace=workspace,
        reported_at=at,
        consecutive=consecutive,
    )


def kept(workspace):
    """Return the files that were kept, and their bytes."""
    folder = Path(workspace, "reports/monitoring/flights")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("statuses", "found"),
    [
        (["raised"], ["warning"]),
        (["raised", "raised", "raised"], ["warning", "raised", "raised"]),
        (["raised", "ok", "raised"], ["warning", "ok", "warning"]),
        (["raised", "unknown", "raised"], ["warning", "unknown", "raised"]),
    ],
)
def test_a_threshold_is_a_signal_after_consecutive_windows(workspace, statuses, found):
    reports = [published(workspace, hour, status) for hour, status in enumerate(statuses)]
    assert [each.findings[0].status for each in reports] == found
    assert [each.signals for each in reports] == [
        ["drift"] if status == "raised" else [] for status in found
    ]


def test_signals_and_models_are_counted_apart(workspace):
    published(workspace, 0)
    assert published(workspace, 1, signal="kpi").findings[0].streak == 1
    assert published(workspace, 2, model_uri="models:/m/2").findings[0].streak == 1
    assert published(workspace, 3, model_uri="models:/m/2").signals == ["drift"]


def test_the_same_window_twice_is_one_report_and_no_news(workspace):
    published(workspace, 0)
    first = published(workspace, 1)
    before = kept(workspace)
    later = NOON + timedelta(days=1)
    assert published(workspace, 1, at=later) == first
    assert kept(workspace) == before
    assert find_signal(workspace, "flights", newer_than=NOON.isoformat()) is None
    published(workspace, 1, "ok", at=later)
    assert find_signal(workspace, "flights") is None


def test_the_newest_window_counts_and_not_the_newest_run(workspace):
    newest = published(workspace, 5, consecutive=1)
    published(workspace, 3, "ok", at=NOON + timedelta(days=1))
    assert find_signal(workspace, "flights") == newest
    latest = read_json(f"{workspace}/reports/monitoring/flights/latest.json")
    assert MonitoringReport.from_xcom(latest["report"]) == newest


def test_a_signal_of_any_model_of_the_newest_window_is_found(workspace):
    models = [f"models:/m/{version}" for version in range(4)]
    for model in models:
        status = "raised" if model == models[2] else "ok"
        published(workspace, 1, status, consecutive=1, model_uri=model)
    assert find_signal(workspace, "flights").model_uri == models[2]
    assert {each.report.model_uri for each in newest_reports(workspace, "flights")} == {*models}


def test_the_window_before_is_one_that_ended_when_this_one_starts(workspace):
    for hour in (1, 2, 3):
        published(workspace, hour)
    published(workspace, 2, model_uri="models:/m/2")
    start = NOON + timedelta(hours=2)
    found = previous_report(workspace, "flights", None, start)
    assert found.window_end == start.isoformat()
    assert previous_report(workspace, "flights", None, NOON) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["ok", "raised", "unknown"]))))
def test_a_run_changes_no_other_window(runs):
    with TemporaryDirectory() as workspace:
        for hour, status in runs:
            folder = Path(workspace, "reports/monitoring/flights")
            before = kept(workspace) if folder.exists() else {}
            report = published(workspace, hour, status)
            own = {Path(report.report_uri).name, "latest.json"}
            after = kept(workspace)
            assert {k: v for k, v in after.items() if k not in own} == {
                k: v for k, v in before.items() if k not in own
            }
            newest = max(name for name in after if name != "latest.json")
            assert after["latest.json"] == after[newest]


def test_rivals_leave_whole_reports(workspace):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda hour: published(workspace, hour % 4), range(40)))
    assert len(kept(workspace)) == 5
    assert published(workspace, 4).findings[0].streak == 5


def test_what_is_no_report_is_named(workspace):
    report = published(workspace, 0)
    for broken in (b"{", b"[]"):
        write_bytes(report.report_uri, broken)
        with pytest.raises(DataError, match="is no monitoring report"):
            find_signal(workspace, "flights")


@pytest.mark.parametrize("consecutive", [0, 101])
def test_consecutive_has_limits(workspace, consecutive):
    with pytest.raises(ParameterError, match="consecutive"):
        published(workspace, 0, consecutive=consecutive)
