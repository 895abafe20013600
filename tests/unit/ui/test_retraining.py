"""The tab of a DAG run that says which event started it."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import MagicMock

import pytest
from airflow.api_fastapi.core_api import security
from fastapi.testclient import TestClient

from airflow_mlops_provider import plugin
from airflow_mlops_provider.links import retraining_url
from airflow_mlops_provider.records import RetrainingEvent, RetrainingOutcome
from airflow_mlops_provider.steps.retrain.ledger import Ledger, decide_retraining
from airflow_mlops_provider.steps.retrain.policy import Policy
from airflow_mlops_provider.ui import services

NOW = datetime(2013, 7, 1, 12, tzinfo=UTC)
RUN = "scheduled__2013-07-01T00:00:00+00:00"


@pytest.fixture
def allowed(monkeypatch):
    """Whether the user may read the DAG; all may at first."""
    manager = MagicMock()
    manager.is_authorized_dag.return_value = True
    monkeypatch.setattr(security, "get_auth_manager", lambda: manager)
    monkeypatch.setattr(security.DagModel, "get_team_name", lambda dag_id: None)
    return manager.is_authorized_dag


@pytest.fixture
def http(allowed):
    services.app.dependency_overrides[security.get_user] = lambda: "somebody"
    yield TestClient(plugin.app)
    services.app.dependency_overrides.clear()


@pytest.fixture
def decided(workspace):
    event = RetrainingEvent(
        id="1",
        kind="drift",
        at=NOW.isoformat(),
        source="mlops-drift://e",
        evidence={"reasons": ["<b>distance</b> moved"], "n": 3},
    )
    ledger = Ledger(workspace, "delay")
    decision = decide_retraining(ledger, f"dag/{RUN}", [event], Policy(), NOW)
    outcome = RetrainingOutcome(
        name="delay",
        run=decision.run,
        outcome="not_better",
        detail="gains -0.01",
        recorded_at=NOW.isoformat(),
    )
    ledger.keep_outcome(outcome)


def page_of(http, run):
    return http.get(retraining_url("dag", run).removeprefix("/mlops"))


@pytest.mark.parametrize("path", [RUN, RUN.replace("+", " ")])
def test_the_page_shows_event_evidence_and_outcome(http, decided, path):
    answer = page_of(http, path)
    assert answer.status_code == 200
    assert "mlops-drift://e" in answer.text
    assert "&lt;b&gt;distance" in answer.text or "\\u003cb\\u003edistance" in answer.text
    assert "<b>distance" not in answer.text
    assert "not better" in answer.text


def test_a_run_that_decided_nothing_says_so(http, workspace, decided):
    answer = page_of(http, "another")
    assert answer.status_code == 200
    assert "No retraining was decided on in this run." in answer.text


def test_who_may_not_read_the_dag_sees_nothing(http, decided, allowed):
    allowed.return_value = False
    assert page_of(http, RUN).status_code == 403
