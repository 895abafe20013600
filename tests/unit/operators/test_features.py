from __future__ import annotations

from unittest.mock import MagicMock, patch

import pandas as pd
import pyarrow as pa
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.hooks import sql as sql_hook
from airflow_mlops_provider.operators import features
from airflow_mlops_provider.operators.features import (
    CheckFeatureServiceOperator,
    FeastApplyOperator,
    FeastHistoricalFeaturesOperator,
    FeastPushOperator,
)
from airflow_mlops_provider.records import ModelVersionRef
from airflow_mlops_provider.steps.features.repo import FeaturePlan

STEPS = "airflow_mlops_provider.steps"


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


@pytest.mark.parametrize(("given", "allowed"), [(False, False), ("True", True), ("False", False)])
def test_apply_keeps_its_plan_and_gives_the_views(context, run, store, given, allowed):
    plan = FeaturePlan(("create entity e", "delete entity d"), ("delete entity d",))

    def apply(opened, repo_path, *, allow_destructive, show):
        assert (opened, repo_path, allow_destructive) == (store, "repo", allowed)
        show(plan)
        return ["v"]

    with patch(f"{STEPS}.features.repo.apply_features", apply):
        assert FeastApplyOperator(**arguments(allow_destructive=given)).execute(context) == ["v"]
    text = "  create entity e\n! delete entity d"
    run.client.log_text.assert_called_once_with("run-1", text, "feast_plan.txt")


@pytest.fixture
def joined(dataset, run):
    """The step, and the pin of its service."""
    run.client.tracking_uri = "sqlite://"
    with (
        patch(f"{STEPS}.features.historical.historical_features", return_value=dataset) as step,
        patch(f"{STEPS}.features.pin.pin_feature_service", return_value="s@1"),
        patch(f"{STEPS}.card.DataCard.html", return_value="<html>"),
    ):
        yield step


def test_historical_features_give_a_dataset_and_pin_the_service(
    context, run, store, dataset, joined
):
    operator = FeastHistoricalFeaturesOperator(
        **arguments(entities=dataset.to_xcom(), name="joined", feature_service="s")
    )
    assert operator.execute(context) == dataset.to_xcom()
    card = joined.call_args.kwargs["card"]
    joined.assert_called_once_with(
        store,
        dataset,
        name="joined",
        workspace="/w",
        feature_service="s",
        features=None,
        check_rows=200,
        card=card,
    )
    run.log_page.assert_called_once_with("<html>", "data_card.html")
    run.log_record.assert_called_once_with(dataset)
    context["ti"].xcom_push.assert_called_once_with(key="feature_service", value="s@1")


@pytest.fixture
def local(tmp_path, run, store, monkeypatch):
    """The arguments of a join whose workspace is a folder."""
    monkeypatch.setattr(features.FeastHook, "assert_called_with", MagicMock())
    return {**arguments(name="joined", features=["v:f"]), "workspace": str(tmp_path)}


ROWS = pd.DataFrame({"origin": ["JFK", "EWR"]})


def frame():
    return ROWS


def test_entity_rows_come_from_a_function(context, local, joined):
    FeastHistoricalFeaturesOperator(**local, entities=frame).execute(context)
    entities = joined.call_args.args[1]
    assert (entities.name, entities.n_rows) == ("joined_entities", 2)
    assert entities.source.endswith("test_features.frame")
    context["ti"].xcom_push.assert_not_called()


def test_entity_rows_come_from_a_query(context, local, joined, monkeypatch):
    stream_query = MagicMock(return_value=iter([pa.Table.from_pandas(ROWS)] * 2))
    monkeypatch.setattr(sql_hook, "stream_query", stream_query)
    sql = {"entities_sql": "SELECT :n", "conn_id": "db", "parameters": {"n": 1}}
    FeastHistoricalFeaturesOperator(**local, **sql).execute(context)
    stream_query.assert_called_once_with("db", "SELECT :n", {"n": 1})
    entities = joined.call_args.args[1]
    assert (entities.name, entities.n_rows) == ("joined_entities", 4)


def test_a_query_without_rows_is_told(context, local, joined, monkeypatch):
    monkeypatch.setattr(sql_hook, "stream_query", MagicMock(return_value=iter([])))
    with pytest.raises(AirflowFailException, match="No rows in SQL of db: SELECT 1"):
        FeastHistoricalFeaturesOperator(**local, entities_sql="SELECT 1", conn_id="db").execute(
            context
        )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "exactly one of entities and entities_sql"),
        ({"entities": frame, "entities_sql": "SELECT 1"}, "exactly one of"),
        ({"entities_sql": "SELECT 1"}, "conn_id"),
    ],
)
def test_entity_rows_have_one_origin(context, local, joined, wrong, message):
    with pytest.raises(AirflowFailException, match=message):
        FeastHistoricalFeaturesOperator(**local, **wrong).execute(context)


def test_push_gives_the_number_of_rows(context, run, store, dataset):
    operator = FeastPushOperator(**arguments(rows=dataset.to_xcom(), push_source="p", to="offline"))
    with patch(f"{STEPS}.features.push.push_features", return_value=3) as step:
        assert operator.execute(context) == 3
    step.assert_called_once_with(store, dataset, push_source="p", to="offline")


def test_a_version_is_held_to_the_features_it_learned_from(context, run, store):
    version = ModelVersionRef(
        name="delay",
        version="2",
        model_uri="models:/delay/2",
        model_id=None,
        run_id=None,
        aliases=[],
    )
    operator = CheckFeatureServiceOperator(**arguments(model_version=version.to_xcom()))
    with patch(f"{STEPS}.features.pin.require_pinned_service", return_value="service") as step:
        assert operator.execute(context) == "service"
    step.assert_called_once_with(store, version)
