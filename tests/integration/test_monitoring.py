"""A month of predictions by a real model: logged, compacted, labelled late and judged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.steps.compact import compact_log
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.evaluate import load_model, predict_score
from airflow_mlops_provider.steps.labels import join_labels
from airflow_mlops_provider.steps.monitor.check import check_model
from airflow_mlops_provider.steps.monitor.model import monitor_model
from airflow_mlops_provider.steps.predict import batch_predict
from airflow_mlops_provider.steps.snapshot import write_dataset
from airflow_mlops_provider.steps.track import experiment_id, task_run
from tests.prediction_logs import record, write_segment
from tests.training import train

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef, ModelRef

FEATURES = ["distance", "wind"]
N_LIVE = 4000


@dataclass
class World:
    """A trained model, what it learned from, and a workspace."""

    workspace: str
    model: ModelRef
    train: DatasetRef
    profile_uri: str


def flights(n, seed, wind=10.0, quality=2.0):
    """Return flights; ``quality`` is how much the truth owes to the features."""
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"distance": generator.integers(100, 3000, n), "wind": generator.normal(wind, 3, n)}
    )
    push = (frame["distance"] - 1550) / 840 + (frame["wind"] - 10) / 3
    chance = 1 / (1 + np.exp(-quality * push))
    late = (generator.uniform(size=n) < chance).astype(int)
    return frame.assign(late=late, flight=[f"e{i}" for i in range(n)])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    workspace, before = str(folder / "workspace"), mlflow.get_tracking_uri()
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri, uri)
    learned = write_dataset(flights(4000, 0), name="flights", workspace=workspace, source="made")
    with task_run(client, experiment_id(client, "e", str(folder / "a")), {}, {}, "train") as run:
        model = train(
            learned,
            "sklearn.linear_model.LogisticRegression",
            run=run,
            features=FEATURES,
            target="late",
            params={"max_iter": 1000},
        )
    profile = profile_dataset(learned, FEATURES, workspace, sample_rows=1000)
    yield World(workspace, model, learned, profile)
    mlflow.set_tracking_uri(before)


@pytest.fixture
def live(world, tmp_path):
    """Serve ``frame`` as a host would: shadowed, retried, killed twice; return the batch."""

    def serve(frame):
        scores = predict_score(load_model(world.model.model_uri), frame)
        common = {"model_uri": world.model.model_uri}
        records = []
        for i, (inputs, score) in enumerate(
            zip(frame[FEATURES].to_dict("records"), scores, strict=True)
        ):
            answer = common | {"inputs": inputs, "outputs": [1 - score, score]}
            if i % 50 == 0:
                failed = {"status": 500, "error_class": "ModelError", "outputs": None}
                records.append(record(i, **(answer | failed)))
            records.append(record(i, **answer, attempt=2 if i % 50 == 0 else 1))
            if i % 10 == 0:
                shadow = {"deployment": "v2", "model_uri": "models:/flights/2", "shadow": True}
                records.append(record(i, **(answer | shadow | {"outputs": [score, 1 - score]})))
        for start in range(0, len(records), 1000):
            repeated = records[max(0, start - 10) : start + 1000]
            torn = '{"request_id": "r' if start in (0, 2000) else ""
            write_segment(tmp_path / "logs", f"v1-{start:06d}", repeated, torn)
        return compact_log(str(tmp_path / "logs"), endpoint="flights", workspace=str(tmp_path))

    return serve


def labelled(world, predictions, frame):
    labels = write_dataset(
        frame[["flight", "late"]], name="delays", workspace=world.workspace, source="made"
    )
    return join_labels(
        predictions, labels, label_key="flight", label_column="late", workspace=world.workspace
    )


def judged(world, predictions, truth, **options):
    return monitor_model(
        predictions,
        truth,
        endpoint="flights",
        profile_uri=world.profile_uri,
        baseline=0.93,
        max_drop=0.02,
        model_uri=world.model.model_uri,
        **options,
    )


def crossing(report):
    """Return the signals that are about the model, and not only about the values it is given."""
    return [signal for signal in report.signals if signal != "quality"]


def test_a_month_as_it_was_raises_no_signal_and_is_counted_right(world, live):
    frame = flights(N_LIVE, 1)
    predictions = live(frame)
    assert predictions.n_rows == N_LIVE + N_LIVE // 50 + N_LIVE // 10
    assert predictions.n_unreadable == 2
    report = judged(world, predictions, labelled(world, predictions, frame))
    assert report.signals == [], report.reasons
    assert report.n_predictions == N_LIVE + N_LIVE // 50
    assert report.error_rate == pytest.approx(80 / 4080)
    assert report.n_labelled == N_LIVE
    assert report.drift.n_current == N_LIVE
    offline = batch_predict(
        world.model.model_uri,
        write_dataset(frame, name="live", workspace=world.workspace, source="made"),
        workspace=world.workspace,
        batch_rows=999,
        keep_columns=["flight"],
    )
    compacted = pd.read_parquet(predictions.uri).query("not shadow and status == 200")
    expected = pd.read_parquet(offline.uri).set_index("flight")["score"]
    together = compacted.set_index("entity_id")["score"]
    np.testing.assert_allclose(together, expected[together.index])


def test_labels_arrive_late(world, live):
    frame = flights(N_LIVE, 2)
    predictions = live(frame)
    nobody = frame.head(3).assign(flight=["other-1", "other-2", "other-3"])
    early = judged(world, predictions, labelled(world, predictions, nobody))
    assert (early.n_labelled, early.performance, early.signals) == (0, {}, [])
    some = judged(world, predictions, labelled(world, predictions, frame.head(300)))
    assert (some.n_labelled, some.signals) == (300, [])
    assert (
        labelled(world, predictions, frame).n_rows
        > labelled(world, predictions, frame.head(300)).n_rows
    )


def test_a_truth_that_moved_raises_performance_alone(world, live):
    frame = flights(N_LIVE, 3, quality=0.5)
    predictions = live(frame)
    report = judged(world, predictions, labelled(world, predictions, frame))
    assert report.signals == ["performance"], report.reasons
    assert report.performance["auc"].high < 0.91


def test_inputs_that_moved_raise_drift_alone(world, live):
    frame = flights(N_LIVE, 4, wind=13.0)
    predictions = live(frame)
    report = judged(world, predictions, None)
    assert crossing(report) == ["drift"], report.reasons
    drifted = [item.feature for item in report.drift.features if item.status == "drifted"]
    assert drifted == ["wind"]


def test_the_model_is_asked_how_it_weighs_its_inputs(world, live):
    usual = judged(world, live(flights(1000, 5)), None, attribution=True)
    assert usual.attribution.ndcg > 0.9
    assert usual.signals == [], usual.reasons
    assert {*usual.attribution.reference} == {*FEATURES}


def test_an_estimate_without_labels_is_what_labels_say_later(world, live, tmp_path):
    evaluated, frame = flights(4000, 6), flights(N_LIVE, 7, wind=11.0)
    scores = predict_score(load_model(world.model.model_uri), evaluated)
    path = tmp_path / "evaluated.parquet"
    pd.DataFrame({"score": scores, "target": evaluated["late"]}).to_parquet(path)
    predictions = live(frame)
    before = judged(world, predictions, None, reference_predictions=str(path))
    after = judged(world, predictions, labelled(world, predictions, frame))
    estimate, found = before.estimated_performance["auc"], after.performance["auc"]
    assert before.performance == {}
    assert abs(estimate.value - found.value) < 0.02


def test_a_report_is_the_same_whenever_it_is_made(world, live):
    frame = flights(N_LIVE, 8)
    predictions = live(frame)
    truth = labelled(world, predictions, frame)
    end = datetime.fromisoformat(predictions.window_end) + timedelta(seconds=1)

    def check(reported_at):
        return check_model(
            predictions,
            truth,
            endpoint="flights",
            workspace=world.workspace,
            due=end,
            window="1d",
            reported_at=reported_at,
            profile_uri=world.profile_uri,
            model_uri=world.model.model_uri,
        )

    first = check(end)
    assert check(end + timedelta(days=9)) == first
    assert first.report.n_labelled == N_LIVE
