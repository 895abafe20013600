from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest.mock import MagicMock

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlops_provider.sensors.features import FeatureFreshnessSensor
from airflow_mlops_provider.triggers import features
from airflow_mlops_provider.triggers.features import FeatureFreshnessTrigger

END = datetime(2013, 2, 1, tzinfo=UTC)


@pytest.fixture
def view(monkeypatch):
    """The only view of the store."""
    view = MagicMock(online=True, enabled=True, most_recent_end_time=END)
    view.name = "weather"
    hook = MagicMock()
    store = hook.return_value.get_conn.return_value
    store.list_batch_feature_views.return_value = [view]
    store.get_feature_view.return_value = view
    monkeypatch.setattr(features, "FeastHook", hook)
    return view


def sensor(**changes):
    return FeatureFreshnessSensor(task_id="t", repo_path="repo", workspace="/w", **changes)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_fresh_view_is_told_at_once(view, deferrable):
    fresh = sensor(fresh_after="2013-02-01", deferrable=deferrable)
    assert fresh.execute({}) == {"weather": END.isoformat()}


@pytest.mark.parametrize("end", [END, None])
def test_a_stale_view_is_waited_for_with_all_it_was_told(view, end):
    view.most_recent_end_time = end
    waiting = sensor(max_age="PT6H", feature_views=["weather"], deferrable=True, poke_interval=7)
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({})
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_mlops_provider.triggers.features.FeatureFreshnessTrigger"
    assert arguments == {
        "repo_path": "repo",
        "feast_conn_id": "feast_default",
        "workspace": "/w",
        "feature_views": ["weather"],
        "fresh_after": None,
        "max_age": "PT6H",
        "poke_interval": 7,
    }


async def test_the_trigger_fires_when_the_view_is_fresh(view):
    view.most_recent_end_time = None
    trigger = FeatureFreshnessTrigger(**sensor(max_age=3600).question, poke_interval=0)
    looks = 0

    def later(*_):
        nonlocal looks
        looks += 1
        view.most_recent_end_time = datetime.now(UTC) if looks > 2 else None

    features.FeastHook.return_value.get_conn.return_value.registry.refresh.side_effect = later
    (event,) = [event.payload async for event in trigger.run()]
    end = datetime.fromisoformat(event["ends"]["weather"])
    assert datetime.now(UTC) - end < timedelta(hours=1)
    assert sensor().execute_complete({}, event) == event["ends"]
    assert looks > 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "exactly one of fresh_after and max_age"),
        ({"fresh_after": "2013", "max_age": 3}, "exactly one of"),
        ({"fresh_after": "soon"}, "fresh_after.*ISO 8601"),
        ({"max_age": "soon"}, "max_age.*ISO 8601"),
        ({"max_age": 3, "feature_views": "nonsense"}, "nonsense"),
    ],
)
async def test_what_cannot_be_waited_for_fails_for_good(view, wrong, message):
    with pytest.raises(AirflowFailException, match=message):
        sensor(**wrong).execute({})
    trigger = FeatureFreshnessTrigger(**sensor(**wrong).question, poke_interval=0)
    (event,) = [event.payload async for event in trigger.run()]
    with pytest.raises(AirflowFailException, match=message):
        sensor(**wrong).execute_complete({}, event)
