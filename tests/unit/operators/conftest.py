"""An operator's surroundings without Airflow's database: a context, and no MLflow behind it."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import MagicMock

import pytest

from airflow_mlops_provider.operators import base
from airflow_mlops_provider.records import DatasetRef, ModelVersionRef


@pytest.fixture
def context():
    ti = MagicMock(dag_id="a_dag", run_id="a_run", task_id="t", map_index=-1, try_number=1)
    return {"ti": ti, "outlet_events": MagicMock()}


@pytest.fixture
def run(monkeypatch):
    """The MLflow run that ``tracked_run`` gives, with everything that was logged to it."""
    opened = MagicMock(run_id="run-1", experiment_id="1")

    @contextmanager
    def tracked_run(self, context):
        with base.failing_for_good():
            yield opened

    monkeypatch.setattr(base.MlopsOperator, "tracked_run", tracked_run)
    return opened


@pytest.fixture
def dataset():
    return DatasetRef(
        name="flights",
        uri="/w/a.parquet",
        file_hash="f",
        logical_hash="l",
        schema_hash="s",
        n_rows=3,
        columns={"late": "int64"},
        source="landing",
    )


@pytest.fixture
def version():
    """Make the version 2 of a model, as another task hands it over."""

    def make(**tags):
        return ModelVersionRef(
            name="delay",
            version="2",
            model_uri="models:/delay/2",
            model_id=None,
            run_id=None,
            aliases=[],
            tags=tags,
        ).to_xcom()

    return make
