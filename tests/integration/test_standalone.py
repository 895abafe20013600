"""Levels 1 and 2 under a real scheduler, triggerer and API, as the demo runs them."""

from __future__ import annotations

import pytest

from airflow_mlops_provider.records import GateVerdict, ModelVersionRef, RolloutVerdict
from flights.demo import MONTHS, PHASES, run_phases
from flights.landing import land_month
from flights.report import record_of


@pytest.fixture(scope="module")
def outcomes(stack):
    """All phases of the demo, by the id of their DAG; the last run of each."""
    for month in MONTHS:
        land_month(str(stack.workspace), month)
    return {outcome.phase.dag_id: outcome for outcome in run_phases(stack.client(), PHASES)}


def records(outcome, kind):
    found = map(record_of, outcome.results.values())
    return [record for record in found if isinstance(record, kind)]


@pytest.mark.parametrize("dag_id", list(dict.fromkeys(phase.dag_id for phase in PHASES)))
def test_every_phase_succeeds(outcomes, dag_id):
    assert dag_id in outcomes, "a phase before it failed"
    assert outcomes[dag_id].ok


def test_continuous_training_passes_the_gate_and_registers(outcomes):
    outcome = outcomes["level1_continuous_training"]
    assert records(outcome, GateVerdict)[0].reasons
    assert records(outcome, ModelVersionRef)


def test_delivery_waits_without_a_worker_and_moves_real_traffic(outcomes):
    outcome = outcomes["level2_model_delivery"]
    (verdict,) = records(outcome, RolloutVerdict)
    assert "deferred" in outcome.states
    assert verdict.state == "SUCCEEDED", verdict.reason
    assert outcome.answers.failures == []
    assert len(outcome.answers.by_deployment) == 2


def test_registering_emits_the_asset_that_starts_delivery(outcomes, stack):
    events = stack.client().asset_events()
    sources = {
        event["source_dag_id"] for event in events if event["uri"].startswith("mlflow-model")
    }
    assert "level1_continuous_training" in sources
