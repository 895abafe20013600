"""What a log may be like that nobody planned for."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.monitor.model import monitor_model
from airflow_mlops_provider.steps.snapshot import write_dataset
from tests.monitored import MODEL, START, finding_of, judged_scores, labelled, log_table, stored

N = 600


def normal(n, seed=0):
    return np.random.default_rng(seed).normal(size=n).tolist()


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """A profile of a number, a text and a time."""
    workspace = str(tmp_path_factory.mktemp("profile"))
    frame = pd.DataFrame(
        {
            "x": normal(2000, 9),
            "origin": ["EWR", "JFK"] * 1000,
            "at": pd.date_range("2013-01-01", periods=2000, freq="h", tz="UTC"),
        }
    )
    dataset = write_dataset(frame, name="train", workspace=workspace, source="test")
    return profile_dataset(dataset, ["x", "origin", "at"], workspace)


def usual(n=N, seed=0):
    times = pd.date_range("2013-01-01", periods=n, freq="3h").strftime("%Y-%m-%dT%H:%M:%S+00:00")
    return {"x": normal(n, seed), "origin": ["EWR", "JFK"] * (n // 2), "at": times.to_list()}


def looked(folder, profile, inputs, n=N, **options):
    columns = options.pop("columns", {})
    batch = stored(folder, log_table(n, inputs, **columns))
    return monitor_model(batch, endpoint="flights", profile_uri=profile, **options)


class TestNothingToSee:
    def test_a_window_without_predictions_is_a_report(self, tmp_path, profile):
        report = looked(tmp_path, profile, {"x": pa.array([], pa.float64())}, n=0)
        assert report.signals == []
        assert {each.status for each in report.findings} == {"unknown"}
        assert (report.n_predictions, report.label_coverage, report.drift) == (0, None, None)

    def test_a_log_of_no_answers_may_lack_what_is_asked_for(self, tmp_path):
        batch = stored(tmp_path, log_table(0))
        report = monitor_model(batch, endpoint="e", segments=["origin"], fairness=["origin"])
        assert (report.segments, report.fairness) == ([], [])

    def test_it_is_a_signal_if_volume_is_watched(self, tmp_path):
        batch = stored(tmp_path, log_table(3))
        options = {"window_start": "2014-01-01", "window_end": "2014-01-02"}
        report = monitor_model(batch, endpoint="flights", thresholds={"volume": 1}, **options)
        assert report.signals == ["service"]
        assert finding_of(report, "service").value == 0

    def test_a_log_that_is_gone_is_said_to_be(self, tmp_path):
        batch = stored(tmp_path, log_table(1))
        (tmp_path / f"{batch.file_hash}.parquet").unlink()
        with pytest.raises(DataError, match="is gone"):
            monitor_model(batch, endpoint="flights")

    @pytest.mark.parametrize("keep", [[0.0], [0.05, 0.3], [0.5, 0.9]])
    def test_a_damaged_log_is_said_to_be_broken(self, tmp_path, keep):
        batch = stored(tmp_path, log_table(1000, score=normal(1000)))
        path = tmp_path / f"{batch.file_hash}.parquet"
        whole = path.read_bytes()
        places = [int(share * len(whole)) for share in keep]
        rest = whole[places[1] :] if len(places) > 1 else b""
        middle = b"\xff" * (len(whole) - len(rest) - places[0])
        path.write_bytes(whole[: places[0]] + middle + rest)
        with pytest.raises(DataError, match="Cannot read"):
            monitor_model(batch, endpoint="flights", model_uri=MODEL)


class TestSchemas:
    def test_inputs_like_those_of_training_are_fine(self, tmp_path, profile):
        report = looked(tmp_path, profile, usual())
        assert finding_of(report, "quality").status == "ok"
        assert (report.missing_features, report.new_inputs) == ([], [])
        assert {each.mismatch_rate for each in report.quality} == {0.0}

    def test_a_feature_that_the_log_lacks_is_named(self, tmp_path, profile):
        inputs = usual()
        del inputs["origin"]
        report = looked(tmp_path, profile, inputs)
        assert report.missing_features == ["origin"]
        assert "quality" in report.signals
        assert "lacks 1 features of the reference: origin" in finding_of(report, "quality").reason
        assert report.drift.n_features == 2

    def test_no_feature_at_all_leaves_drift_unknown(self, tmp_path, profile):
        report = looked(tmp_path, profile, {"other": [1.0] * N})
        assert "none of the features" in finding_of(report, "drift").reason
        assert report.signals == ["quality"]

    def test_an_input_that_training_did_not_know_is_a_warning(self, tmp_path, profile):
        report = looked(tmp_path, profile, usual() | {"new": [1.0] * N, "empty": [None] * N})
        assert report.new_inputs == ["new"]
        assert finding_of(report, "quality").status == "warning"
        assert "quality" not in report.signals

    def test_numbers_that_another_version_made_text_are_still_numbers(self, tmp_path, profile):
        inputs = usual()
        texts = [repr(value) for value in inputs["x"]] + ["fast"] * N
        both = {name: values * 2 for name, values in inputs.items()} | {"x": texts}
        models = {"model_uri": [MODEL] * N + ["models:/flights/2"] * N}
        known = looked(tmp_path / "a", profile, inputs)
        report = looked(tmp_path / "b", profile, both, n=2 * N, columns=models, model_uri=MODEL)
        assert report.drift.features == known.drift.features
        assert report.quality == known.quality

    @pytest.mark.parametrize(
        ("name", "values", "raised"),
        [
            ("x", ["fast"] * N, True),
            ("x", [*map(str, normal(N - 3)), "a", "b", "c"], False),
            ("at", [17] * N, True),
            ("at", ["yesterday"] * N, True),
        ],
    )
    def test_values_of_another_type_count(self, tmp_path, profile, name, values, raised):
        report = looked(tmp_path, profile, usual() | {name: values})
        (quality,) = [each for each in report.quality if each.feature == name]
        wrong = 3 / N if not raised else 1.0
        assert (quality.mismatch_rate, quality.missing_rate) == (wrong, wrong)
        assert ("quality" in report.signals) is raised

    def test_numbers_are_categories_where_texts_were(self, tmp_path, profile):
        report = looked(tmp_path, profile, usual() | {"origin": [1, 2] * (N // 2)})
        (quality,) = [each for each in report.quality if each.feature == "origin"]
        assert (quality.unseen_rate, quality.mismatch_rate) == (1.0, 0.0)

    def test_names_are_quoted(self, tmp_path):
        name = 'a "b"; DROP TABLE live; --'
        frame = pd.DataFrame({name: normal(2000)})
        dataset = write_dataset(frame, name="t", workspace=str(tmp_path), source="test")
        profile = profile_dataset(dataset, None, str(tmp_path))
        report = looked(tmp_path, profile, {name: normal(N)}, segments=[name], model_uri=MODEL)
        assert report.drift.n_current == N
        other = monitor_model(
            stored(tmp_path, log_table(2)), endpoint="e", model_uri="x' OR '1'='1"
        )
        assert other.n_predictions == 0

    def test_a_segment_that_is_no_column_is_named(self, tmp_path, profile):
        with pytest.raises(DataError, match=r"got \['tail'\]"):
            looked(tmp_path, profile, usual(), segments=["tail"])


class TestClocks:
    @pytest.mark.parametrize(("n", "status"), [(10, "unknown"), (N, "warning")])
    def test_rows_of_the_future_are_counted_and_left_out(self, tmp_path, n, status):
        now = START + timedelta(seconds=n - 1)
        report = monitor_model(stored(tmp_path, log_table(n + 2)), endpoint="flights", now=now)
        assert (report.n_predictions, report.n_future) == (n, 2)
        assert report.window_end == now.isoformat()
        assert finding_of(report, "quality").status == status
        assert "2 predictions claim to be of the future" in finding_of(report, "quality").reason

    def test_labels_before_their_predictions_are_counted_and_have_no_delay(self, tmp_path):
        scores, labels = judged_scores(N)
        table = log_table(N, score=scores)
        seconds = np.where(np.arange(N) < 100, -5, 60)
        known = pa.array(
            [START + timedelta(seconds=int(i + s)) for i, s in enumerate(seconds)],
            pa.timestamp("us", "UTC"),
        )
        truth = labelled(tmp_path / "l", table, labels, label_ts=known)
        report = monitor_model(stored(tmp_path, table), truth, endpoint="flights")
        assert (report.n_labelled, report.n_early_labels) == (N, 100)
        assert (report.label_delay_median_s, report.label_delay_p95_s) == (60.0, 60.0)
        assert "100 labels claim to be older" in finding_of(report, "performance").reason

    def test_labels_whose_time_nobody_knows_have_no_delay(self, tmp_path):
        scores, labels = judged_scores(N)
        table = log_table(N, score=scores)
        unknown = pa.nulls(N, pa.timestamp("us", "UTC"))
        truth = labelled(tmp_path / "l", table, labels, label_ts=unknown)
        report = monitor_model(stored(tmp_path, table), truth, endpoint="flights")
        assert (report.label_delay_median_s, report.n_early_labels) == (None, 0)

    @pytest.mark.parametrize(
        ("start", "end", "n"),
        [
            ("2013-07-01T00:00:02", "2013-07-01T00:00:05", 3),
            ("2013-07-01T02:00:02+02:00", None, 8),
            (None, "2013-07-01T00:00:00", 0),
        ],
    )
    def test_a_window_includes_its_start_and_not_its_end(self, tmp_path, start, end, n):
        batch = stored(tmp_path, log_table(10))
        report = monitor_model(batch, endpoint="flights", window_start=start, window_end=end)
        assert report.n_predictions == n

    def test_a_window_that_ends_before_it_begins_is_refused(self, tmp_path):
        options = {"window_start": "2013-07-02", "window_end": "2013-07-01"}
        with pytest.raises(ParameterError, match="window_end"):
            monitor_model(stored(tmp_path, log_table(1)), endpoint="flights", **options)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**16), rows_a_group=st.integers(1, N))
def test_neither_order_nor_batches_change_a_report(tmp_path, profile, seed, rows_a_group):
    scores, labels = judged_scores(N)
    rng = np.random.default_rng(seed)
    attempts = {"request_id": [f"r{i // 2}" for i in range(N)], "attempt": [1, 2] * (N // 2)}
    latency = {"latency_ms": np.random.default_rng(0).exponential(size=N)}
    table = log_table(N, usual(), score=scores, **attempts, **latency)
    options = {"profile_uri": profile, "segments": ["origin"], "fairness": ["origin"]}
    options |= {"endpoint": "flights", "baseline": 0.8}
    truth = labelled(tmp_path / "l", table, labels)
    whole = monitor_model(stored(tmp_path / "a", table), truth, **options)
    order = pa.array(rng.permutation(N))
    other = monitor_model(
        stored(tmp_path / "b", table.take(order), row_group_size=rows_a_group),
        labelled(tmp_path / "m", table.take(order), np.asarray(labels)[order]),
        **options,
    )
    assert other.n_answered == N // 2
    blank = {"dataset_uri": ""}
    assert other.to_xcom() | {"drift": other.drift.to_xcom() | blank} == (
        whole.to_xcom() | {"drift": whole.drift.to_xcom() | blank}
    )
