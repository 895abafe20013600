"""A report with everything that is kept and shown of it."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from prometheus_client.parser import text_string_to_metric_families

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import (
    AttributionDrift,
    Fairness,
    FeatureQuality,
    Finding,
    Metric,
    MonitoringReport,
    SegmentReport,
)
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.monitor.check import check_model
from airflow_mlops_provider.steps.monitor.exposition import exposition
from airflow_mlops_provider.steps.monitor.page import monitoring_page
from airflow_mlops_provider.steps.monitor.tracking import log_check
from airflow_mlops_provider.steps.snapshot import write_dataset
from tests.drift_reports import drift_report, feature_drift
from tests.monitored import START, finding_of, judged_scores, labelled, log_table, stored

HOUR = timedelta(hours=1)
LATER = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def hours(tmp_path):
    """Make a log of an hour for each mean of the input ``x``, 600 predictions each."""

    def make(*means):
        rng = np.random.default_rng(0)
        values = np.concatenate([rng.normal(mean, 1, 600) for mean in means])
        n = len(values)
        times = [START + timedelta(seconds=6 * i) for i in range(n)]
        return stored(tmp_path / "log", log_table(n, {"x": values}, ts=times))

    return make


@pytest.fixture
def profile(workspace):
    values = np.random.default_rng(1).normal(size=2000)
    dataset = write_dataset(pd.DataFrame({"x": values}), "train", workspace, "test")
    return profile_dataset(dataset, None, workspace)


@pytest.fixture
def check(workspace):
    def make(batch, due, truth=None, **options):
        options = {"reported_at": LATER} | options
        return check_model(
            batch, truth, endpoint="flights", workspace=workspace, due=due, **options
        )

    return make


class TestWindows:
    @pytest.mark.parametrize(
        ("window", "offset", "start", "end"),
        [
            ("1h", None, 1, 2),
            (3600, None, 1, 2),
            ("3600", None, 1, 2),
            (HOUR, HOUR, 0, 1),
            ("PT2H", "0s", 0, 2),
        ],
    )
    def test_a_window_ends_when_the_report_was_due_less_the_offset(
        self, hours, check, window, offset, start, end
    ):
        report = check(hours(0, 0, 0), START + 2 * HOUR, window=window, offset=offset).report
        assert report.window_start == (START + start * HOUR).isoformat()
        assert report.window_end == (START + end * HOUR).isoformat()
        assert report.n_predictions == 600 * (end - start)

    def test_by_default_it_is_that_of_the_predictions(self, hours, check):
        batch = hours(0)
        found = check(batch, LATER)
        assert (found.report.window_start, found.report.window_end) == (
            batch.window_start,
            batch.window_end,
        )
        assert found.end.isoformat() == batch.window_end

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({"window": "soon"}, "window"),
            ({"window": "0h"}, "window"),
            ({"window": "-1h"}, "window"),
            ({"offset": "1h"}, "offset"),
            ({"window": "1h", "offset": "soon"}, "offset"),
        ],
    )
    def test_other_lengths_are_refused(self, hours, check, options, name):
        with pytest.raises(ParameterError, match=f"The {name} parameter of check_model"):
            check(hours(0), LATER, **options)


class TestTwiceAndOutOfOrder:
    def test_windows_are_counted_by_their_time(self, hours, check, profile):
        batch = hours(0, 3, 3, 3)
        ends = {hour: START + hour * HOUR for hour in (1, 2, 3, 4)}
        options = {"window": "1h", "consecutive": 2, "profile_uri": profile}
        found = {hour: check(batch, ends[hour], **options).report for hour in (2, 4, 1, 3)}
        streaks = {hour: finding_of(each, "drift").streak for hour, each in found.items()}
        assert streaks == {1: 0, 2: 1, 3: 2, 4: 2}  # window 3 was not known to window 4
        again = {hour: check(batch, ends[hour], **options).report for hour in (4, 3, 2, 1)}
        assert {hour: again[hour] == found[hour] for hour in again} == {
            1: True,
            2: True,
            3: True,
            4: False,
        }
        assert finding_of(again[4], "drift").streak == 3

    def test_the_same_window_twice_changes_nothing(self, hours, check, profile, workspace):
        batch = hours(0, 3)
        options = {"window": "1h", "profile_uri": profile, "reference": "previous"}

        def kept():
            return {
                path: path.read_bytes() for path in Path(workspace).rglob("*") if path.is_file()
            }

        first = [check(batch, START + hour * HOUR, **options) for hour in (1, 2)]
        before = kept()
        again = [
            check(batch, START + hour * HOUR, **options, reported_at=LATER + HOUR)
            for hour in (1, 2)
        ]
        assert again == first
        assert kept() == before


class TestPreviousWindow:
    def test_each_window_is_compared_with_the_one_before(self, hours, check):
        batch = hours(0, 0, 3, 3)
        options = {"window": "1h", "reference": "previous"}
        found = [check(batch, START + hour * HOUR, **options).report for hour in (1, 2, 3, 4)]
        assert [finding_of(each, "drift").status for each in found] == [
            "unknown",
            "ok",
            "raised",
            "ok",
        ]
        assert "no earlier window" in finding_of(found[0], "drift").reason
        assert "rows of the window before" in finding_of(found[1], "drift").reason
        assert finding_of(found[1], "prediction_drift").status == "ok"

    def test_its_auc_is_the_baseline(self, tmp_path, check):
        scores, labels = judged_scores(1200)
        labels[600:] = 1 - labels[600:]
        times = [START + timedelta(seconds=6 * i) for i in range(1200)]
        table = log_table(1200, score=scores, ts=times)
        truth = labelled(tmp_path / "l", table, labels)
        options = {"window": "1h", "reference": "previous", "truth": truth}
        batch = stored(tmp_path / "log", table)
        first, second = (check(batch, START + hour * HOUR, **options).report for hour in (1, 2))
        assert first.baseline is None
        assert second.baseline == first.performance["auc"].value
        assert "performance" in second.signals


def full_report(**changes):
    """Return a report in which everything was looked at."""
    metric = Metric(value=0.71, low=0.69, high=0.73, n=900)
    signals = ("service", "quality", "drift", "performance", "estimated_performance")
    fields = {
        "endpoint": "flights",
        "n_predictions": 1000,
        "n_labelled": 900,
        "error_rate": 0.01,
        "latency_p50_ms": 2.0,
        "latency_p95_ms": 5.0,
        "latency_p99_ms": 9.0,
        "drift": drift_report("drifted", feature_drift('x"<&', psi=0.3)),
        "performance": {"auc": metric},
        "estimated_performance": {"auc": metric},
        "signals": ["drift"],
        "reasons": ["Because."],
        "model_uri": "models:/flights/1",
        "window_start": START.isoformat(),
        "window_end": (START + HOUR).isoformat(),
        "label_coverage": 0.9,
        "label_delay_median_s": 90.0,
        "label_delay_p95_s": 7200.0,
        "score_mean": 0.3,
        "prediction_drift": feature_drift("score", psi=0.02),
        "attribution": AttributionDrift(ndcg=0.95, n=900, reference={"x": 0.2}, current={"x": 0.1}),
        "quality": [
            FeatureQuality(
                feature="x",
                n=1000,
                missing_rate=0.1,
                reference_missing_rate=0.0,
                unseen_rate=None,
                out_of_range_rate=0.02,
                mismatch_rate=0.0,
            )
        ],
        "fairness": [
            Fairness(
                column="origin",
                groups={"EWR": {"n": 500.0, "selection_rate": 0.3}},
                demographic_parity_difference=0.1,
                demographic_parity_ratio=0.7,
                equalized_odds_difference=None,
            )
        ],
        "kpis": {"revenue": 12.5},
        "segments": [
            SegmentReport(
                column="origin",
                value="EWR",
                n=500,
                error_rate=0.0,
                latency_p95_ms=None,
                score_mean=0.3,
                n_labelled=450,
                performance={"auc": metric},
            )
        ],
        "findings": [
            Finding(
                signal=signal,
                status="warning" if signal == "drift" else "ok",
                reason=f"<b>{signal}</b>",
                crossed=signal == "drift",
                streak=int(signal == "drift"),
                n=1000,
            )
            for signal in signals
        ],
    }
    return MonitoringReport(**fields | changes)


class TestPage:
    def test_it_tells_everything_and_escapes_it(self):
        page = monitoring_page(full_report(), {'x"<&': b"png"}, consecutive=2)
        assert "<b>drift</b>" not in page
        for text in (
            "&lt;b&gt;drift&lt;/b&gt;",
            "This is window 1 in a row; 2 raise the signal",
            "0.710 (0.690 to 0.730)",
            "assumes no concept drift",
            "90 s / 2.0 h",
            "revenue",
            "origin = EWR",
            "NDCG 0.950",
            "data:image/png;base64",
        ):
            assert text in page
        assert "http" not in re.sub(r"<!--.*?-->", "", page)

    def test_a_report_of_nothing_is_a_page_too(self):
        nothing = MonitoringReport(
            endpoint="flights",
            n_predictions=0,
            n_labelled=0,
            error_rate=0.0,
            latency_p95_ms=None,
            drift=None,
            performance={},
            signals=[],
            reasons=[],
        )
        page = monitoring_page(nothing, {}, consecutive=1)
        assert "too little to tell" in page
        assert "No figure is known yet" in page


class TestExposition:
    def test_prometheus_reads_it(self):
        other = full_report(endpoint="flights", model_uri='m"\\\n')
        text = exposition([full_report(), other])
        families = {each.name: each for each in text_string_to_metric_families(text)}
        assert len(families) == text.count("# TYPE")
        (rate, _) = families["mlops_monitoring_error_rate"].samples
        assert rate.value == 0.01
        assert rate.labels == {"endpoint": "flights", "model_uri": "models:/flights/1"}
        models = {each.labels["model_uri"] for each in families["mlops_monitoring_kpi"].samples}
        assert models == {"models:/flights/1", 'm"\\\n'}
        found = {
            each.labels["signal"]: each.value
            for each in families["mlops_monitoring_finding"].samples
        }
        assert (found["drift"], found["service"]) == (1, 0)
        features = families["mlops_monitoring_feature_psi"].samples
        assert features[0].labels["feature"] == 'x"<&'

    def test_it_lies_in_the_workspace_and_is_of_the_newest_window(self, hours, check, workspace):
        batch = hours(0, 0)
        for hour in (2, 1):
            check(batch, START + hour * HOUR, window="1h")
        path = Path(workspace, "reports/monitoring/flights/metrics.prom")
        ends = re.findall(r"window_end_seconds\{.*\} (\S+)", path.read_text())
        assert [float(end) for end in ends] == [(START + 2 * HOUR).timestamp()]

    def test_the_dashboard_asks_only_for_what_is_told(self):
        dashboard = json.loads(
            files("airflow_mlops_provider").joinpath("grafana/monitoring.json").read_text()
        )
        told = set(re.findall(r"# TYPE (\S+)", exposition([full_report()])))
        asked = {
            name
            for panel in dashboard["panels"]
            for target in panel["targets"]
            for name in re.findall(r"mlops_monitoring_\w+", target["expr"])
        }
        assert asked <= told
        assert told - asked <= {
            "mlops_monitoring_predictions",
            "mlops_monitoring_labelled",
            "mlops_monitoring_score_mean",
        }


class TestTracking:
    def test_windows_are_points_of_the_endpoints_run(self, hours, check, run):
        batch = hours(0, 0, 0)
        checks = [check(batch, START + hour * HOUR, window="1h") for hour in (3, 1, 2, 2)]
        for each in checks:
            log_check(run, each)
        found = run.client.search_runs([run.experiment_id], "tags.`mlops.kind` = 'monitoring'")
        (series,) = [each for each in found if each.data.tags["mlops.endpoint"] == "flights"]
        history = run.client.get_metric_history(series.info.run_id, "n_predictions")
        ends = [int((START + hour * HOUR).timestamp()) for hour in (1, 2, 3)]
        assert sorted((each.step, each.timestamp // 1000) for each in history) == [
            (end, end) for end in ends
        ]
        assert series.info.status == "FINISHED"
        mine = run.client.get_run(run.run_id)
        assert mine.data.metrics["finding/service"] == 0.0
        assert "records/MonitoringReport.json" in [
            each.path for each in run.client.list_artifacts(run.run_id, "records")
        ]

    def test_a_name_that_mlflow_refuses_is_made_to_fit(self, hours, check, run):
        found = check(hours(0), LATER)
        report = replace(found.report, kpis={"€ a#day": 3.0})
        log_check(run, replace(found, report=report))
        metrics = run.client.get_run(run.run_id).data.metrics
        assert metrics["kpi/_ a_day"] == 3.0

    def test_an_outage_loses_no_report(self, hours, check, run, workspace, monkeypatch):
        def down(*_, **__):
            raise MlflowException("nobody answers")

        found = check(hours(0), LATER)
        monkeypatch.setattr(run.client, "log_batch", down)
        with pytest.raises(MlflowException, match="nobody answers"):
            log_check(run, found)
        assert Path(found.report.report_uri).exists()
