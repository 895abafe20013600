from __future__ import annotations

from dataclasses import replace
from unittest.mock import MagicMock, patch

import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import (
    DataError,
    MlflowUnavailableError,
    ModelError,
    ParameterError,
    RegistryConflictError,
)
from airflow_mlops_provider.records import ModelVersionRef, MonitoringReport
from airflow_mlops_provider.steps.rollback import RollbackRule, go_back, judge_previous, told
from airflow_mlops_provider.steps.snapshot import write_dataset
from tests.serving_fake import FakeTarget

ROWS = 2_000
REPORT = MonitoringReport(
    endpoint="e",
    n_predictions=ROWS,
    n_labelled=ROWS,
    error_rate=0.0,
    latency_p95_ms=None,
    drift=None,
    performance={},
    signals=["performance"],
    reasons=["The AUC is 0.55, wholly below 0.68."],
)


def version(number):
    return ModelVersionRef(
        name="delay",
        version=number,
        model_uri=f"models:/delay/{number}",
        model_id=None,
        run_id=None,
        aliases=[],
    )


CHAMPION, PREVIOUS = version("2"), version("1")


def scores(noise, seed):
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(0).integers(0, 2, ROWS)
    return truth, 1 / (1 + np.exp(-(4 * truth - 2 + rng.normal(scale=noise, size=ROWS))))


@pytest.fixture
def live(tmp_path):
    """Labelled predictions of the champion, whose scores have so much noise."""

    def make(noise=4.0, **changes):
        label, score = scores(noise, seed=1)
        columns = {
            "request_id": [f"r{number}" for number in range(ROWS)],
            "row": 0,
            "attempt": 1,
            "model_uri": CHAMPION.model_uri,
            "status": 200,
            "shadow": False,
            "score": score,
            "label": label,
            "input.x": np.arange(ROWS, dtype=float),
        }
        frame = pd.DataFrame(columns | changes)
        return write_dataset(frame, "live", str(tmp_path), "test")

    return make


@pytest.fixture
def previous(monkeypatch):
    """Let the previous model answer with scores of so much noise; it sees ``x`` alone."""

    def answers(noise):
        def predict(model, frame):
            assert list(frame.columns) == ["x"]
            return scores(noise, seed=2)[1][frame["x"].astype(int)]

        monkeypatch.setattr("airflow_mlops_provider.steps.rollback.load_model", lambda uri: uri)
        monkeypatch.setattr("airflow_mlops_provider.steps.rollback.predict_score", predict)

    return answers


def judged(labelled, report=REPORT, **rule):
    return judge_previous(report, labelled, CHAMPION, PREVIOUS, RollbackRule(**rule))


@pytest.mark.parametrize(
    ("champion", "predecessor", "rule", "outcome"),
    [
        (8.0, 2.0, {}, "rolled_back"),
        (8.0, 2.0, {"metric": "log_loss"}, "rolled_back"),
        (8.0, 2.0, {"margin": 0.9}, "kept"),
        (2.0, 8.0, {}, "kept"),
        (4.0, 4.0, {}, "kept"),
    ],
)
def test_only_a_predecessor_that_is_proven_better_takes_over(
    live, previous, champion, predecessor, rule, outcome
):
    previous(predecessor)
    verdict = judged(live(champion), **rule)
    assert verdict.outcome == outcome
    assert [reason.passed for reason in verdict.reasons[:2]] == [True, True]
    assert verdict.reasons[-1].n == ROWS


@pytest.mark.parametrize(
    ("report", "check"),
    [(None, "performance"), (replace(REPORT, signals=["drift"]), "performance")],
)
def test_without_a_performance_signal_nothing_is_even_compared(live, report, check):
    verdict = judged(live(), report)
    assert verdict.outcome == "kept"
    assert [reason.check for reason in verdict.reasons] == [check]


@pytest.mark.parametrize(
    "changes",
    [
        {"model_uri": "models:/delay/9"},
        {"shadow": True},
        {"status": 500},
        {"label": None},
        {"request_id": "one"},
    ],
)
def test_only_labelled_answers_that_users_had_of_the_champion_count(live, changes):
    verdict = judged(live(**changes))
    assert verdict.outcome == "kept"
    assert verdict.reasons[-1].check == "rows"
    assert "at least 500 are asked for" in verdict.reasons[-1].detail


def test_no_labels_yet_keep_the_champion():
    assert judged(None).reasons[-1].check == "rows"


def test_labels_of_one_class_keep_the_champion(live, previous):
    previous(1.0)
    verdict = judged(live(label=1))
    assert verdict.outcome == "kept"
    assert "not defined" in verdict.reasons[-1].detail


def test_a_predecessor_that_cannot_answer_keeps_the_champion(live):
    broken = patch(
        "airflow_mlops_provider.steps.rollback.load_model", side_effect=ModelError("files are gone")
    )
    with broken:
        verdict = judged(live())
    assert verdict.outcome == "kept"
    assert verdict.reasons[-1].check == "previous:usable"
    assert "files are gone" in told(verdict)


def test_an_outage_of_mlflow_decides_nothing(live):
    away = patch(
        "airflow_mlops_provider.steps.rollback.load_model", side_effect=MlflowUnavailableError
    )
    with away, pytest.raises(MlflowUnavailableError):
        judged(live())


def test_predictions_without_labels_are_refused(live):
    labelled = live()
    del labelled.columns["label"]
    with pytest.raises(DataError, match=r"\['label'\].*JoinLabelsOperator"):
        judged(labelled)


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ({"margin": -1}, "margin"),
        ({"confidence": 1}, "confidence"),
        ({"min_rows": 1}, "min_rows"),
        ({"metric": "beauty"}, "metric"),
    ],
)
def test_knobs_out_of_range_are_named(rule, name):
    with pytest.raises(ParameterError, match=f"The {name} parameter"):
        judged(None, **rule)


@pytest.fixture
def registry():
    with patch("airflow_mlops_provider.steps.rollback.roll_back", return_value=PREVIOUS) as moved:
        yield moved


def test_going_back_moves_alias_and_traffic(registry):
    target = FakeTarget(deployments={"v2": CHAMPION.model_uri}, traffic={"v2": 100})
    for _ in range(2):
        go_back(MagicMock(), target, "e", CHAMPION, PREVIOUS, reason="worse", by="a/run")
    assert target.get_state("e").traffic == {"v1": 100}
    assert registry.call_args.args[1] == "delay"
    assert registry.call_args.kwargs == {
        "reason": "worse",
        "by": "a/run",
        "expected_champion": "2",
    }


def test_without_an_endpoint_only_the_alias_moves(registry):
    go_back(MagicMock(), None, None, CHAMPION, PREVIOUS, reason="worse", by="a/run")
    registry.assert_called_once()


def test_nothing_moves_during_a_rollout(registry):
    target = FakeTarget(rollout={"state": "STEP", "candidate": "v3"})
    with pytest.raises(RegistryConflictError, match="rollout of 'v3'"):
        go_back(MagicMock(), target, "e", CHAMPION, PREVIOUS, reason="worse", by="a/run")
    registry.assert_not_called()
