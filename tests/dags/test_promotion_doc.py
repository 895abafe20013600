"""The DAGs in docs/promotion.md run as they stand there: a first model, a promotion, a refusal."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow  # minutes, and make test has to fit in CI's time

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "promotion.md").read_text()
ROWS = 4_000


def orders(path, noise):
    rng = np.random.default_rng(0)
    amount, items = rng.gamma(2, 20, ROWS), rng.integers(1, 9, ROWS)
    signal = amount / 20 - items / 4 + rng.normal(scale=noise, size=ROWS)
    columns = {"amount": amount, "items": items, "shop": rng.choice(["north", "south"], ROWS)}
    returned = (signal > 0).astype(int)
    pd.DataFrame({**columns, "returned": returned}).to_parquet(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("promotion")


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
    """Run a DAG, with a yes to whoever asks; give the state of each task."""

    def go(name):
        run = bag.get_dag(name).test(mark_success_pattern="approve")
        return {each.task_id: each.state for each in run.get_task_instances()}

    return go


def versions():
    import mlflow

    client = mlflow.MlflowClient()
    found = client.get_registered_model("returns").aliases
    return {alias: str(version) for alias, version in found.items()}


def test_the_page_promotes_refuses_and_goes_back(ran, folder):
    orders(folder / "orders.parquet", noise=0.5)
    first = ran("promotion")
    assert first["gate"] == first["register"] == "success"
    assert first["promote"] == "skipped"  # it is champion already
    assert versions() == {"champion": "1"}

    second = ran("promotion")
    assert set(second.values()) == {"success"}
    assert versions() == {"champion": "2", "previous": "1"}

    orders(folder / "orders.parquet", noise=1_000)
    third = ran("promotion")
    assert third["gate"] == "failed"
    assert third["register"] == third["promote"] == "upstream_failed"
    assert versions() == {"champion": "2", "previous": "1"}

    assert ran("roll_back") == {"roll_back": "success"}
    assert versions() == {"champion": "1"}


def test_the_page_watches_the_registry(bag):
    assert "new_champion" in bag.dags


def test_what_the_page_names_exists():
    from airflow_mlops_provider.records import ModelCost
    from airflow_mlops_provider.steps.metrics.figures import figures_of

    for figure in ("latency_p50_ms", "latency_p95_ms", "load_seconds", "size_mb"):
        assert figure in PAGE
        assert figure in ModelCost.__dataclass_fields__
    assert "auc" in figures_of("classification", 2)
    assert {"rmse"} <= set(figures_of("regression", 2))
