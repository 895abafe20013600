"""The gate on real flights that went wrong upstream: what runs, what is told, what is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.utils.session import create_session
from sqlalchemy import select

from flights.broken import land_broken
from flights.landing import land_month

FILE = Path(__file__).resolve().parents[2] / "dags" / "level1_data_gate.py"
MONTH = "2013-03"


@pytest.fixture(scope="module")
def gate(dag_bag, environment):
    """Run the gate over files that are broken in some way; give the run and its tasks' states."""
    from airflow.dag_processing.dagbag import BundleDagBag

    workspace = environment["AIRFLOW__MLOPS__WORKSPACE"]
    land_month(workspace, MONTH)

    def run(how):
        source = land_broken(workspace, MONTH, how)
        # a test run leaves its parameters in the DAG, so each run parses its own
        bag = BundleDagBag(str(FILE), bundle_name="dags-folder", bundle_path=FILE.parent)
        done = bag.get_dag("level1_data_gate").test(run_conf={"month": MONTH, "source": source})
        return done, {ti.task_id: ti.state for ti in done.get_task_instances()}

    return run


def drift_events(run):
    from airflow.models.asset import AssetEvent

    with create_session() as session:
        mine = select(AssetEvent).where(AssetEvent.source_run_id == run.run_id)
        events = session.scalars(mine).all()
        return [event.asset.uri for event in events if event.asset.uri.startswith("mlops-drift")]


def test_schema_skew_stops_for_a_person(gate):
    run, states = gate("schema")
    assert run.state == "failed"
    assert states["stop"] == "failed"
    assert states["retrain"] == states["drift"] == "skipped"
    assert drift_events(run) == []


def test_value_skew_asks_for_retraining(gate):
    run, states = gate("values")
    assert run.state == "success"
    assert states["retrain"] == "success"
    assert states["stop"] == states["drift"] == "skipped"
    assert drift_events(run) == ["mlops-drift://flight-delay/"]
