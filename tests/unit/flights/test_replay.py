from __future__ import annotations

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.records import (
    DriftReport,
    EvaluationReport,
    GateReason,
    GateVerdict,
    Metric,
    ModelRef,
    MonitoringReport,
)
from airflow_mlops_provider.steps.metrics.figures import BINARY, Sample
from airflow_mlops_provider.steps.snapshot import read_dataset
from flights.columns import FEATURES, TARGET
from flights.features import build_feature_sources
from flights.replay_data import Landed, flights_between, labels_known, training_set
from flights.replay_live import Live
from flights.replay_models import Candidate
from flights.replay_page import page
from flights.replay_pictures import save_pictures
from flights.replay_policies import POLICIES, follow
from flights.replay_results import Replay, by_day, courses, month_figures

MONTHS = ["2013-04", "2013-05", "2013-06", "2013-07"]
N = 600


def metric(value):
    return Metric(value=value, low=value - 0.01, high=value + 0.01, n=N)


def candidate(month):
    return Candidate(
        month=month,
        model=ModelRef(
            model_uri=f"models:/m-{month}",
            model_id=f"m-{month}",
            run_id="r",
            target=TARGET,
            features=FEATURES,
            params={},
            metrics={"fit_seconds": 2.0, "train_rows": 100.0},
            train_hash="h",
        ),
        evaluation=EvaluationReport(
            model_uri=f"models:/m-{month}",
            dataset_uri="d",
            task="classification",
            metrics={"auc": metric(0.7)},
            slices=[],
            predictions_uri="p",
        ),
        profile_uri="profile",
    )


def report(signals):
    drift = DriftReport(
        dataset_uri="d",
        profile_uri="profile",
        verdict="drifted" if "drift" in signals else "stable",
        share_drifted=0.4 if "drift" in signals else 0.1,
        n_reference=N,
        n_current=N,
        n_features=20,
        features=[],
    )
    return MonitoringReport(
        endpoint="e",
        n_predictions=N,
        n_labelled=N,
        error_rate=0.0,
        latency_p95_ms=None,
        drift=drift,
        performance={"auc": metric(0.65), "brier": metric(0.2)},
        estimated_performance={"auc": metric(0.68)},
        label_coverage=0.95,
        signals=signals,
        reasons=[],
    )


class FakeWorld:
    """Months whose signals are told, and a gate that says what it is told."""

    def __init__(self, signals=None, outcomes=None):
        self.signals, self.outcomes, self.trained = signals or {}, outcomes or {}, []

    def live(self, champion, month):
        generator = np.random.default_rng(int(month[-2:]))
        truth = generator.integers(0, 2, N).astype(float)
        blur = generator.normal(0, 1, N) * (1 if champion.month == "2013-03" else 0.5)
        score = 1 / (1 + np.exp(-(truth - 0.5 + blur)))
        days = np.datetime64(month) + np.arange(N) // 20
        return Live(report(self.signals.get(month, [])), Sample.of(truth, score), days)

    def train(self, month):
        self.trained.append(month)
        return candidate(month)

    def gate(self, challenger, champion):
        outcome = self.outcomes.get(challenger.month, "promote")
        reason = GateReason(check="floor:auc", passed=outcome == "promote", detail="0.5", n=N)
        return GateVerdict(
            outcome=outcome,
            challenger_uri=challenger.model.model_uri,
            champion_uri=champion.model.model_uri,
            reasons=[reason],
        )


def champions(policy, world):
    return [each.champion.month for each in follow(policy, world, candidate("2013-03"), MONTHS)]


NEVER, MONTHLY, TRIGGERED, DEGRADED = POLICIES


def test_without_retraining_the_first_champion_serves_the_whole_year():
    world = FakeWorld({month: ["drift"] for month in MONTHS})
    assert champions(NEVER, world) == ["2013-03"] * 4
    assert world.trained == []


def test_every_month_trains_anew_but_not_for_nobody_after_the_last():
    world = FakeWorld()
    assert champions(MONTHLY, world) == ["2013-03", "2013-04", "2013-05", "2013-06"]
    assert world.trained == ["2013-04", "2013-05", "2013-06"]


def test_only_drift_and_performance_trigger_retraining():
    world = FakeWorld({"2013-04": ["service", "fairness"], "2013-05": ["kpi", "performance"]})
    assert champions(TRIGGERED, world) == ["2013-03", "2013-03", "2013-05", "2013-05"]


def test_drift_alone_does_not_trigger_who_waits_for_degradation():
    world = FakeWorld({"2013-04": ["drift"], "2013-05": ["drift", "performance"]})
    assert champions(DEGRADED, world) == ["2013-03", "2013-03", "2013-05", "2013-05"]
    assert world.trained == ["2013-05"]


def test_a_challenger_that_the_gate_does_not_promote_serves_nobody():
    outcomes = {"2013-04": "refused", "2013-05": "keep_champion"}
    served = list(follow(MONTHLY, FakeWorld({}, outcomes), candidate("2013-03"), MONTHS))
    assert [each.champion.month for each in served] == ["2013-03"] * 3 + ["2013-06"]
    told = [each.attempt.verdict.outcome for each in served if each.attempt]
    assert told == ["refused", "keep_champion", "promote"]


def test_triggered_retraining_rests_after_a_training_even_if_it_was_in_vain():
    policy = SimpleNamespace(wants=TRIGGERED.wants, cool_down=45)
    world = FakeWorld({month: ["drift"] for month in MONTHS}, {"2013-05": "keep_champion"})
    champions(policy, world)
    assert world.trained == ["2013-05"], "31 days after March and 30 after May are too few"


def test_days_that_repeat_their_rows_are_one_observation_each():
    generator = np.random.default_rng(0)
    truth, score = generator.integers(0, 2, 300).astype(float), generator.uniform(size=300)
    alone = BINARY["auc"].estimate(Sample.of(truth, score))
    fivefold = BINARY["auc"].estimate(Sample.of(np.repeat(truth, 5), np.repeat(score, 5)))
    clustered = by_day(fivefold, np.repeat(np.arange(300), 5))
    assert clustered.value == pytest.approx(alone.value)
    assert clustered.variance == pytest.approx(alone.variance, rel=1e-6)
    assert fivefold.variance < 0.25 * alone.variance, "what it would be without the days"


def test_figures_of_a_month_agree_with_scikit_learn():
    from sklearn.metrics import brier_score_loss, roc_auc_score

    sample = FakeWorld().live(candidate("2013-03"), "2013-04").sample
    found = month_figures(sample)
    assert found.auc.value == pytest.approx(roc_auc_score(sample.truth, sample.score))
    assert found.brier.value == pytest.approx(brier_score_loss(sample.truth, sample.score))
    assert found.late_rate == sample.truth.mean()
    assert found.predicted_rate == pytest.approx(sample.score.mean())


@pytest.fixture(scope="module")
def found():
    signals = {"2013-05": ["drift"], "2013-06": ["performance"]}
    outcomes = {"2013-04": "keep_champion", "2013-06": "refused"}
    world = FakeWorld(signals, outcomes)
    first = candidate("2013-03")
    served = {each.name: list(follow(each, world, first, MONTHS)) for each in POLICIES}
    return Replay([Landed("2013-03", 28_800, 27_000, 0.2)], courses(served))


def test_a_policy_is_told_with_its_trainings_and_what_they_brought(found):
    never, monthly, triggered, degraded = found.courses
    assert (never.trainings, never.rows, never.seconds) == (0, 0, 0)
    assert all(gain.low == gain.value == gain.high == 0 for gain in never.gains.values())
    assert monthly.n_outcomes == {"keep_champion": 1, "promote": 1, "refused": 1}
    assert (monthly.rows, monthly.seconds) == (300, 6.0)
    assert triggered.n_outcomes == {"promote": 1, "refused": 1}
    assert degraded.n_outcomes == {"refused": 1}
    for policy in (monthly, triggered):
        assert policy.pooled["auc"].value > never.pooled["auc"].value
        assert policy.gains["auc"].low > 0
        assert policy.gains["brier"].value == pytest.approx(
            never.pooled["brier"].value - policy.pooled["brier"].value
        )


def test_the_page_shows_months_signals_costs_and_refusals(found):
    text = page(found)
    assert "| 2013-03 | 28,800 | 18.8% | 20.0% | learned from |" in text
    assert "| 2013-05 | 600 |" in text
    assert "| every month | 3 | 1 | 1 | 1 | 300 |" in text
    assert "- on drift or performance, end of 2013-06: `floor:auc`: 0.5" in text
    assert "| 0.680 (0.670 to 0.690) | 600 (95.0%) | 0.650 (0.640 to 0.660) |" in text
    assert "nan" not in text
    tables = re.findall(r"(?m)(?:^\|.*\n)+", text)
    assert [table.count("\n") - 2 for table in tables] == [5, 4, 4, 3, 4, 4, 4, 4]
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_pictures_are_the_same_each_time(found, tmp_path):
    save_pictures(found, tmp_path / "one")
    save_pictures(found, tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["replay-policies.png", "replay-verdicts.png"]
    for name in names:
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert first == second
        assert first.startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def quarter(landed):
    """A workspace in which three months have landed and have features."""
    build_feature_sources(landed)
    return landed


def test_features_of_a_month_are_the_same_whatever_lands_later(quarter, tmp_path):
    shutil.copytree(f"{quarter}/landing", tmp_path / "landing")
    for march in tmp_path.glob("landing/*/2013-03.parquet"):
        march.unlink()
    build_feature_sources(str(tmp_path))
    then = flights_between(str(tmp_path), "2013-02", "2013-03")
    later = flights_between(quarter, "2013-02", "2013-03")
    assert len(then) == len(pd.read_parquet(f"{quarter}/landing/flights/2013-02.parquet"))
    pd.testing.assert_frame_equal(then, later)
    assert (then["temp"].notna().mean(), then["late_rate_28d"].notna().mean()) > (0.9, 0.9)


def test_no_label_is_known_before_its_flight_has_landed(quarter):
    flights = flights_between(quarter, "2013-02", "2013-03")
    labels = read_dataset(labels_known(flights, "2013-02", quarter))
    end = pd.Timestamp("2013-03", tz="UTC")
    assert (labels["label_time"] < end).all()
    assert labels["late"].notna().all()
    aloft = flights[flights["label_time"] >= end]
    assert 0 < len(aloft) < 0.02 * len(flights)
    assert not set(aloft["flight_id"]) & set(labels["flight_id"])
    learned = training_set(quarter, "2013-02")
    assert (learned.window_start, learned.window_end) == (
        "2013-01-01T00:00:00+00:00",
        "2013-03-01T00:00:00+00:00",
    )
    frame = read_dataset(learned).set_index("flight_id")
    assert frame.loc[aloft["flight_id"], "late"].isna().all()
    assert set(FEATURES) <= set(frame.columns)
