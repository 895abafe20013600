"""Events, trainings and a ledger for the tests of retraining."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_mlops_provider.records import RetrainingDecision, RetrainingEvent
from airflow_mlops_provider.steps.retrain.ledger import Ledger
from airflow_mlops_provider.steps.retrain.policy import Training

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def noon():
    return NOON


@pytest.fixture
def event():
    """Make an event of a kind, so many seconds before noon."""

    def make(kind="drift", ago=0, by=None, name=""):
        at = (NOON - timedelta(seconds=ago)).isoformat()
        return RetrainingEvent(id=f"{kind}-{ago}-{name}", kind=kind, at=at, source="a test", by=by)

    return make


@pytest.fixture
def training(event):
    """Make a training on an event of a kind, decided so many seconds before noon."""

    def make(kind="drift", ago=0, outcome="registered"):
        started = event(kind, ago)
        decision = RetrainingDecision(
            name="delay",
            run=f"dag/{kind}-{ago}",
            decision="train",
            event=started,
            reason="",
            decided_at=started.at,
            events=[started],
        )
        return Training(decision, outcome)

    return make


@pytest.fixture
def ledger(tmp_path):
    return Ledger(str(tmp_path), "delay")
