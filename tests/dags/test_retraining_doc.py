"""The DAGs in docs/retraining.md run as they stand there: one that trains, one that need not."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.records import RetrainingEvent
from airflow_mlops_provider.steps.retrain.ledger import Ledger
from tests.dags.conftest import WORKSPACE

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "retraining.md").read_text()
ROWS = 2_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("retraining")


@pytest.fixture(scope="module")
def bag(airflow_db, environment, folder):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    (folder / "dags").mkdir()
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)):
        (folder / "dags" / f"page_{number}.py").write_text(code.replace("/data", str(folder)))
    DagBundlesManager().sync_bundles_to_db()
    found = BundleDagBag(
        str(folder / "dags"), bundle_name="dags-folder", bundle_path=folder / "dags"
    )
    assert found.import_errors == {}
    sync_bag_to_db(found, "dags-folder", None)
    return found


@pytest.fixture
def ran(bag):
    def go(**conf):
        run = bag.get_dag("retraining").test(run_conf=conf)
        return run.state, {each.task_id: each.state for each in run.get_task_instances()}

    return go


def drift(name):
    now = datetime.now(UTC).isoformat()
    return RetrainingEvent(id=name, kind="drift", at=now, source=name).to_xcom()


def test_all_dags_of_the_page_are_dags(bag):
    assert set(bag.dags) == {"retraining", "new_rows", "watched"}


@pytest.mark.slow
def test_a_first_drift_trains_and_the_second_is_a_non_event(ran, folder):
    rng = np.random.default_rng(0)
    amount, items = rng.gamma(2, 20, ROWS), rng.integers(1, 9, ROWS)
    late = (amount / 20 - items / 4 + rng.normal(scale=0.5, size=ROWS) > 0).astype(int)
    frame = pd.DataFrame({"amount": amount, "items": items, "returned": late})
    frame.to_parquet(folder / "orders.parquet")
    state, states = ran(retraining_event=drift("first"))
    assert state == "success"
    assert set(states.values()) - {"skipped"} == {"success"}
    assert states["register"] == states["record"] == "success"

    state, states = ran(retraining_event=drift("second"))
    assert state == "success"
    assert states.pop("decide") == states.pop("record") == "success"
    assert set(states.values()) == {"skipped"}

    ledger = Ledger(WORKSPACE, "returns")
    ((_, outcome),) = [(each.decision, each.outcome) for each in ledger.trainings()]
    assert outcome == "promoted"
    assert [each.event.id for each in ledger.skipped()] == ["second"]
