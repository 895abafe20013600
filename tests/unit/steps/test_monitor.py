import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import DriftReport, FeatureDrift, Metric
from airflow_mlops_provider.steps import monitor
from airflow_mlops_provider.steps.compact import compact_log
from airflow_mlops_provider.steps.monitor import join_labels, monitor_model
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
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


def joined(predictions, labels, workspace, **options):
    options = {"label_key": "flight", "label_column": "late"} | options
    ref = join_labels(predictions, labels, workspace=workspace, **options)
    return None if ref is None else read_dataset(ref)


class TestJoinLabels:
    def test_only_labelled_predictions_stay(self, predictions, labels, workspace):
        frame = joined(
            predictions(record(1), record(2), record(3, entity_id=None), record(4, entity_id="e1")),
            labels({"flight": ["e1", "e9", None], "late": [1, 0, 1]}),
            workspace,
        )
        assert frame[["request_id", "label"]].to_numpy().tolist() == [["r1", 1], ["r4", 1]]
        assert frame["input.x"].tolist() == [1.0, 4.0]

    def test_labels_that_have_not_come_are_none(self, predictions, labels, workspace):
        batch = predictions(record(1), record(2))
        assert joined(batch, labels({"flight": ["e9"], "late": [1]}), workspace) is None
        assert joined(batch, labels({"flight": ["e1", "e2"], "late": [None, 1.0]}), workspace)[
            "request_id"
        ].tolist() == ["r2"]

    @pytest.mark.parametrize("keys", [[7, 8], [7.0, 8.0], ["7", "8"]])
    def test_keys_meet_as_text(self, predictions, labels, workspace, keys):
        batch = predictions(record(1, entity_id="7"), record(2, entity_id=8))
        frame = joined(batch, labels({"flight": keys, "late": [0, 1]}), workspace)
        assert frame["label"].tolist() == [0, 1]

    def test_two_labels_for_a_key_are_refused(self, predictions, labels, workspace):
        twice = labels({"flight": ["e1", "e1", "e2"], "late": [0, 1, 0]})
        with pytest.raises(DataError, match=r"one 'late' for each 'flight'.* 1 of them \(e1\)"):
            joined(predictions(record(1)), twice, workspace)

    def test_the_last_correction_holds(self, predictions, labels, workspace):
        corrected = labels(
            {"flight": ["e1", "e1", "e1"], "late": [1, 0, 0], "at": [3, 1, 2]},
        )
        frame = joined(predictions(record(1)), corrected, workspace, updated_column="at")
        assert frame["label"].tolist() == [1]

    def test_a_missing_column_is_named(self, predictions, labels, workspace):
        batch, truth = predictions(record(1)), labels({"flight": ["e1"], "late": [1]})
        with pytest.raises(DataError, match=r"Expected columns \['tail'\]"):
            joined(batch, truth, workspace, key="tail")
        with pytest.raises(DataError, match=r"Expected columns \['delay'\]"):
            joined(batch, truth, workspace, label_column="delay")

    def test_the_same_labels_give_the_same_dataset(self, predictions, labels, workspace):
        batch, truth = predictions(record(1)), labels({"flight": ["e1"], "late": [1]})
        options = {"label_key": "flight", "label_column": "late", "workspace": workspace}
        assert join_labels(batch, truth, **options) == join_labels(batch, truth, **options)

    def test_predictions_that_are_gone_are_said_to_be(
        self, predictions, labels, workspace, tmp_path
    ):
        batch = predictions(record(1))
        (tmp_path / "ws/predictions/flights" / f"{batch.file_hash}.parquet").unlink()
        with pytest.raises(DataError, match="is gone"):
            joined(batch, labels({"flight": ["e1"], "late": [1]}), workspace)


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


class TestDrift:
    @pytest.mark.parametrize(
        ("verdict", "signals"),
        [("stable", []), ("insufficient_data", []), ("drifted", ["drift"])],
    )
    def test_the_verdict_on_live_inputs_is_the_signal(
        self, predictions, monkeypatch, verdict, signals
    ):
        seen = {}

        def detect(frame, profile_uri, **_):
            seen.update(frame=frame, profile_uri=profile_uri)
            feature = FeatureDrift(
                feature="x",
                kind="numeric",
                status=verdict,
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
            return DriftReport(
                dataset_uri="u",
                profile_uri=profile_uri,
                verdict=verdict,
                share_drifted=1.0,
                n_reference=1000,
                n_current=len(frame),
                n_features=1,
                features=[feature],
            )

        monkeypatch.setattr(monitor, "detect_drift", detect)
        batch = predictions(
            record(1),
            record(1, attempt=2),
            record(2, shadow=True),
            record(3, status=400, outputs=None, inputs={"x": "rubbish"}),
        )
        report = monitor_model(batch, endpoint="flights", profile_uri="profile.json")
        assert report.signals == signals
        assert seen["profile_uri"] == "profile.json"
        assert list(seen["frame"].columns) == ["x"]
        assert len(seen["frame"]) == 1
        assert "on 1 predictions against 1000 training rows" in report.reasons[1]

    def test_without_answered_predictions_there_is_none(self, predictions):
        batch = predictions(record(1, status=500, outputs=None))
        report = monitor_model(batch, endpoint="flights", profile_uri="profile.json")
        assert report.drift is None
        assert "no live prediction was answered" in report.reasons[1]


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
        assert f"{report.performance['auc'].value:.3f}" in report.reasons[2]
        assert f"on {n} labelled predictions" in report.reasons[2]

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
        assert "1 labelled predictions without both classes" in report.reasons[2]

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
