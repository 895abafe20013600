"""Every example DAG by ``dag.test()``, in the order of the demo.

Under a real scheduler the demo's run in ``tests/integration/test_standalone.py``, with each change.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from flights.demo import MONTHS, PHASES, live_traffic
from flights.landing import land_month
from flights.report import record_of

DAG_FILES = sorted(Path(__file__).resolve().parents[2].glob("dags/*.py"))


def test_every_dag_file_parses(dag_bag):
    assert dag_bag.import_errors == {}
    assert {Path(dag.fileloc).stem for dag in dag_bag.dags.values()} == {
        file.stem for file in DAG_FILES
    }


def test_every_dag_tells_what_it_is_for(dag_bag):
    for dag in dag_bag.dags.values():
        assert dag.doc_md, dag.dag_id
        assert "mlops" in dag.tags, dag.dag_id


@pytest.fixture(scope="module", autouse=True)
def landed(environment):
    for month in MONTHS:
        land_month(environment["AIRFLOW__MLOPS__WORKSPACE"], month)


@pytest.fixture(scope="module")
def records():
    """What the runs so far returned."""
    return []


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.title)
def test_every_dag_of_the_demo_runs(phase, dag_bag, environment, records):
    dag = dag_bag.get_dag(phase.dag_id)
    if phase.traffic:
        with live_traffic(records) as traffic:
            run = dag.test(run_conf=phase.params)
        assert traffic.answers.sent > 0
        assert traffic.answers.failures == []
    else:
        run = dag.test(run_conf=phase.params)
    assert run.state == phase.ends
    values = [
        ti.xcom_pull(task_ids=ti.task_id, key="return_value") for ti in run.get_task_instances()
    ]
    records += filter(None, map(record_of, values))


def test_features_are_materialized(dag_bag, environment):
    run = dag_bag.get_dag("level1_feature_materialization").test(run_conf={"month": MONTHS[-1]})
    assert run.state == "success"
