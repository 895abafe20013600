"""Levels 1 and 2 under a real scheduler, triggerer and API, as the demo runs them."""

from __future__ import annotations

import pytest

from airflow_mlops_provider.records import GateVerdict, ModelVersionRef, RolloutVerdict
from flights.demo import MONTHS, PHASES, run_phases
from flights.landing import land_month
from flights.report import record_of


@pytest.fixture(scope="module")
def outcomes(stack):
    """All phases of the demo, by title."""
    for month in MONTHS:
        land_month(str(stack.workspace), month)
    return {outcome.phase.title: outcome for outcome in run_phases(stack.client(), PHASES)}


def records(outcome, kind):
    found = map(record_of, outcome.results.values())
    return [record for record in found if isinstance(record, kind)]


@pytest.mark.parametrize("title", [phase.title for phase in PHASES])
def test_every_phase_ends_as_it_should(outcomes, title):
    assert title in outcomes, "a phase before it failed"
    assert outcomes[title].ok


def test_continuous_training_passes_the_gate_and_registers(outcomes):
    outcome = outcomes["Level 1: March arrives"]
    assert records(outcome, GateVerdict)[0].reasons
    assert records(outcome, ModelVersionRef)


def test_delivery_waits_without_a_worker_and_moves_real_traffic(outcomes):
    outcome = outcomes["Level 2: delivery under live traffic"]
    (verdict,) = records(outcome, RolloutVerdict)
    assert "deferred" in outcome.states
    assert verdict.state == "SUCCEEDED", verdict.reason
    assert outcome.answers.failures == []
    assert len(outcome.answers.by_deployment) == 2


def test_a_challenger_that_fails_in_service_is_rolled_back_unseen_by_users(outcomes):
    outcome = outcomes["Level 2: its delivery is rolled back"]
    (verdict,) = records(outcome, RolloutVerdict)
    assert verdict.state == "ROLLED_BACK", verdict.reason
    assert verdict.steps[-1]["candidate_errors"] > 0
    assert outcome.answers.failures == []


def test_registering_emits_the_asset_that_starts_delivery(outcomes, stack):
    events = stack.client().asset_events()
    sources = {
        event["source_dag_id"] for event in events if event["uri"].startswith("mlflow-model")
    }
    assert "level1_continuous_training" in sources
