import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import Metric
from airflow_mlops_provider.steps.compact import compact_log
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.labels import join_labels
from airflow_mlops_provider.steps.monitor.model import monitor_model
from airflow_mlops_provider.steps.snapshot import write_dataset
from tests.prediction_logs import record, write_segment


@pytest.fixture
def workspace(tmp_path):
    return str(tmp_path / "ws")


@pytest.fixture
def predictions(tmp_path, workspace):
    def make(*records):
        write_segment(tmp_path / "logs", "a", records)
        return compact_log(str(tmp_path / "logs"), endpoint="flights", workspace=workspace)

    return make


@pytest.fixture
def labels(workspace):
    def make(rows):
        frame = pd.DataFrame(rows)
        return write_dataset(frame, name="delays", workspace=workspace, source="test")

    return make


def found(report, signal):
    """Return the finding of a signal; there is exactly one."""
    (finding,) = [each for each in report.findings if each.signal == signal]
    return finding


class TestTraffic:
    def test_errors_and_latency_are_of_live_attempts(self, predictions):
        report = monitor_model(
            predictions(
                record(1, latency_ms=1.0),
                record(2, status=500, outputs=None, latency_ms=3.0),
                record(2, attempt=2, latency_ms=2.0),
                record(3, status=400, outputs=None, latency_ms=None),
                record(4, status=500, shadow=True, latency_ms=900.0),
            ),
            endpoint="flights",
        )
        assert (report.n_predictions, report.error_rate) == (4, 0.25)
        assert report.latency_p95_ms == pytest.approx(2.9)
        assert (
            report.reasons[0]
            == "1 of 4 live predictions failed (25.00%); 95 % took at most 2.9 ms."
        )
        assert report.signals == []

    def test_no_traffic_is_a_report_too(self, predictions):
        report = monitor_model(predictions(record(1, shadow=True)), endpoint="flights")
        assert (report.n_predictions, report.error_rate, report.latency_p95_ms) == (0, 0.0, None)
        assert report.reasons[0] == "No live predictions in this window."

    def test_only_the_asked_model_is_looked_at(self, predictions):
        batch = predictions(record(1), record(2, model_uri="models:/flights/2", status=500))
        report = monitor_model(batch, endpoint="flights", model_uri="models:/flights/1")
        assert (report.n_predictions, report.error_rate) == (1, 0.0)

    def test_a_batch_that_is_no_log_is_refused(self, predictions, workspace, labels):
        other = labels({"score": [1.0]})
        batch = predictions(record(1))
        foreign = type(batch)(uri=other.uri, n_rows=1, file_hash="", model_versions=[])
        with pytest.raises(DataError, match=r"Expected columns .*'request_id'"):
            monitor_model(foreign, endpoint="flights")


@pytest.fixture
def profiled(workspace):
    """Profile training data of one or more columns."""

    def make(frame, **options):
        dataset = write_dataset(pd.DataFrame(frame), name="train", workspace=workspace, source="t")
        return profile_dataset(dataset, None, workspace, **options)

    return make


def normal(n, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, n)


def asked(values, **changes):
    """Return a record for each value of the input ``x``."""
    return [record(i, inputs={"x": value}, **changes) for i, value in enumerate(values)]


class TestDrift:
    @pytest.mark.parametrize(
        ("n", "mean", "status", "signals"),
        [
            (800, 0.0, "ok", []),
            (499, 3.0, "unknown", []),
            (800, 3.0, "raised", ["quality", "drift"]),
        ],
    )
    def test_the_verdict_on_live_inputs_is_the_signal(
        self, predictions, profiled, n, mean, status, signals
    ):
        profile = profiled({"x": normal(2000)})
        batch = predictions(*asked(normal(n, 1, mean).tolist()))
        report = monitor_model(batch, endpoint="flights", profile_uri=profile)
        assert found(report, "drift").status == status
        assert report.signals == signals
        assert f"on {n} predictions against 2000 training rows" in found(report, "drift").reason

    def test_shadows_refusals_and_earlier_attempts_are_left_out(self, predictions, profiled):
        batch = predictions(
            record(1, inputs={"x": 5.0}),
            record(1, attempt=2, inputs={"x": 7.0}),
            record(2, shadow=True),
            record(3, status=400, outputs=None, inputs={"x": "rubbish"}),
            record(4, status=500, outputs=None),
        )
        profile = profiled({"x": [5.0, 7.0] * 5})
        report = monitor_model(batch, endpoint="flights", profile_uri=profile)
        assert (report.n_answered, report.n_refused, report.drift.n_current) == (1, 1, 1)
        assert (report.quality[0].missing_rate, report.quality[0].out_of_range_rate) == (0, 0)

    def test_without_answered_predictions_there_is_none(self, predictions, profiled):
        batch = predictions(record(1, status=500, outputs=None))
        profile = profiled({"x": [1.0]})
        report = monitor_model(batch, endpoint="flights", profile_uri=profile)
        assert report.drift is None
        assert "no live prediction was answered" in found(report, "drift").reason

    def test_without_a_profile_it_is_not_looked_at(self, predictions):
        report = monitor_model(predictions(record(1)), endpoint="flights")
        assert "no profile of the training data" in found(report, "drift").reason
        assert found(report, "drift").status == "unknown"

    @pytest.mark.parametrize(("share", "signal"), [(0.5, True), (0.6, False)])
    def test_the_threshold_is_a_share_of_features(self, predictions, profiled, share, signal):
        profile = profiled({"x": normal(2000), "y": normal(2000, 1)})
        inputs = zip(normal(800, 2, 3.0), normal(800, 3), strict=True)
        batch = predictions(
            *(record(i, inputs={"x": x, "y": y}) for i, (x, y) in enumerate(inputs))
        )
        report = monitor_model(
            batch, endpoint="flights", profile_uri=profile, thresholds={"drifted_share": share}
        )
        assert ("drift" in report.signals) is signal
        assert found(report, "drift").threshold == share


def scored(n=1000, flipped=0.0, seed=0):
    """Return records and labels of a model of AUC 1, of which a share of labels is flipped."""
    generator = np.random.default_rng(seed)
    score = generator.uniform(size=n)
    late = (score > 0.5) ^ (generator.uniform(size=n) < flipped)
    return [record(i, outputs=float(s)) for i, s in enumerate(score)], {
        "flight": [f"e{i}" for i in range(n)],
        "late": late.astype(int),
    }


class TestPerformance:
    @pytest.mark.parametrize(
        ("flipped", "n", "baseline", "signal"),
        [
            (0.0, 1000, 0.9, False),
            (0.2, 1000, 0.81, False),  # within max_drop
            (0.2, 1000, 0.95, True),
            (0.2, 499, 0.95, False),  # fewer than min_rows
            (0.2, 500, 0.95, True),
            (0.2, 1000, Metric(value=0.95, low=0.94, high=0.96, n=9).to_xcom(), True),
            (0.2, 1000, "0.95", True),
            (0.2, 1000, None, False),
        ],
    )
    def test_only_a_proven_fall_is_a_signal(
        self, predictions, labels, workspace, flipped, n, baseline, signal
    ):
        records, truth = scored(n, flipped)
        batch = predictions(*records)
        labelled = join_labels(
            batch, labels(truth), label_key="flight", label_column="late", workspace=workspace
        )
        report = monitor_model(batch, labelled, endpoint="flights", baseline=baseline)
        assert report.n_labelled == n
        assert report.performance["auc"].n == n
        assert report.signals == (["performance"] if signal else [])
        assert f"{report.performance['auc'].value:.3f}" in found(report, "performance").reason
        assert f"on {n} labelled predictions" in found(report, "performance").reason

    def test_the_interval_must_lie_wholly_below_the_floor(self, predictions, labels, workspace):
        records, truth = scored(1000, 0.2)
        batch = predictions(*records)
        labelled = join_labels(
            batch, labels(truth), label_key="flight", label_column="late", workspace=workspace
        )
        auc = monitor_model(batch, labelled, endpoint="flights").performance["auc"]
        for baseline, signals in ((auc.high - 1e-6, []), (auc.high + 1e-6, ["performance"])):
            report = monitor_model(
                batch, labelled, endpoint="flights", baseline=baseline, max_drop=0
            )
            assert report.signals == signals

    def test_shadow_and_unanswered_predictions_do_not_count(self, predictions, labels, workspace):
        batch = predictions(
            record(1, outputs=0.9),
            record(2, outputs=0.1),
            record(1, deployment="v2", outputs=0.0, shadow=True),
            record(2, attempt=2, outputs=0.2),
            record(3, outputs=None, status=500),
            record(4, outputs="a text"),
            record(5, outputs=0.1, model_uri="models:/flights/2"),
        )
        truth = labels({"flight": [f"e{i}" for i in range(1, 6)], "late": [1, 0, 1, 1, 1]})
        labelled = join_labels(
            batch, truth, label_key="flight", label_column="late", workspace=workspace
        )
        report = monitor_model(batch, labelled, endpoint="flights", model_uri="models:/flights/1")
        assert (report.n_labelled, report.performance["auc"].value) == (2, 1.0)

    def test_one_class_alone_says_nothing(self, predictions, labels, workspace):
        batch = predictions(record(1))
        truth = labels({"flight": ["e1"], "late": [True]})
        labelled = join_labels(
            batch, truth, label_key="flight", label_column="late", workspace=workspace
        )
        report = monitor_model(batch, labelled, endpoint="flights", baseline=0.9)
        assert (report.performance, report.signals, report.n_labelled) == ({}, [], 1)
        assert "1 labelled predictions without both classes" in found(report, "performance").reason

    def test_labels_other_than_0_and_1_are_refused(self, predictions, labels, workspace):
        batch = predictions(record(1))
        truth = labels({"flight": ["e1"], "late": [17]})
        labelled = join_labels(
            batch, truth, label_key="flight", label_column="late", workspace=workspace
        )
        with pytest.raises(DataError, match=r"Expected labels 0 and 1 .* got \['17'\]"):
            monitor_model(batch, labelled, endpoint="flights")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_drop": -0.1}, "max_drop"),
        ({"max_drop": float("nan")}, "max_drop"),
        ({"min_rows": 0}, "min_rows"),
        ({"baseline": 1.5}, "baseline"),
        ({"baseline": "good"}, "baseline"),
        ({"baseline": {"value": 0.5}}, "baseline"),
    ],
)
def test_a_parameter_out_of_range_is_named(predictions, options, name):
    with pytest.raises(ParameterError, match=f"The {name} parameter of monitor_model"):
        monitor_model(predictions(record(1)), endpoint="flights", **options)
