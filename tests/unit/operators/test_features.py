from __future__ import annotations

from unittest.mock import MagicMock, patch

import pytest

from airflow_mlops_provider.operators import features
from airflow_mlops_provider.operators.features import (
    FeastApplyOperator,
    FeastHistoricalFeaturesOperator,
    FeastMaterializeOperator,
)

STEPS = "airflow_mlops_provider.steps.features"


@pytest.fixture
def store(monkeypatch):
    hook = MagicMock()
    monkeypatch.setattr(features, "FeastHook", hook)
    yield hook.return_value.get_conn.return_value
    hook.assert_called_with("feast_conn", "repo", "/w")


def arguments(**changes):
    return {
        "task_id": "t",
        "repo_path": "repo",
        "feast_conn_id": "feast_conn",
        "workspace": "/w",
        **changes,
    }


def test_apply_gives_the_views(context, run, store):
    with patch(f"{STEPS}.apply_features", return_value=["v"]) as step:
        assert FeastApplyOperator(**arguments()).execute(context) == ["v"]
    step.assert_called_once_with(store, "repo")


def test_materialize_hands_over_its_window_and_heals_when_killed(context, run, store):
    operator = FeastMaterializeOperator(
        **arguments(start="2013-01-01", end="2013-02-01", feature_views=["v"])
    )
    with patch(f"{STEPS}.materialize", return_value=["v"]) as step:
        assert operator.execute(context) == ["v"]
    step.assert_called_once_with(store, ["v"], "2013-01-01", "2013-02-01")
    with patch(f"{STEPS}.heal_views") as heal:
        operator.on_kill()
    heal.assert_called_once_with(store, ["v"])


def test_the_window_is_the_data_interval_by_default():
    operator = FeastMaterializeOperator(**arguments())
    operator.render_template_fields(
        {"data_interval_start": "a", "data_interval_end": "b", "dag": MagicMock()}
    )
    assert (operator.start, operator.end) == ("a", "b")


def test_historical_features_give_a_dataset(context, run, store, dataset):
    operator = FeastHistoricalFeaturesOperator(
        **arguments(entities=dataset.to_xcom(), name="joined", feature_service="s")
    )
    with patch(f"{STEPS}.historical_features", return_value=dataset) as step:
        assert operator.execute(context) == dataset.to_xcom()
    step.assert_called_once_with(
        store, dataset, name="joined", workspace="/w", feature_service="s", features=None
    )
    run.log_record.assert_called_once_with(dataset)
