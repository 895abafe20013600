from __future__ import annotations

import json

import pytest

from airflow_mlops_provider.exceptions import RecordError
from airflow_mlops_provider.steps.retrain.events import (
    REQUEST,
    asset_event,
    bounded,
    demand,
    schedule,
)

AT = "2013-07-01T12:00:00+00:00"
LATER = "2013-07-01T12:00:09+00:00"


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("mlops-drift://flight-delay/", "drift"),
        ("mlops-alert://flight-delay/", "drift"),
        ("mlops-performance://flight-delay/", "performance"),
        ("mlops-dataset://flights/", "new_data"),
        ("s3://bucket/landing", "new_data"),
        ("new_flights", "new_data"),
    ],
)
def test_an_asset_tells_the_kind(uri, kind):
    event = asset_event(uri, AT, extra={"a": 1}, emitted_by="dag/run/task")
    assert event.kind == kind
    assert event.evidence == {"a": 1}
    assert event.source == f"{uri} by dag/run/task"


def test_a_watchers_payload_is_the_evidence_and_its_id_makes_it_one():
    extra = {"from_trigger": True, "payload": {"id": "7", "files": ["a"]}}
    first = asset_event("new", AT, extra=extra, emitted_by=None)
    again = asset_event("new", LATER, extra=extra, emitted_by=None)
    other = asset_event("other", AT, extra=extra, emitted_by=None)
    assert first.evidence == {"id": "7", "files": ["a"]}
    assert first.id == again.id != other.id


def test_reports_on_the_same_window_are_one_event_and_others_are_not():
    report = {"endpoint": "e", "model_uri": "m", "window_start": "a", "window_end": "b"}

    def told(at, **changes):
        return asset_event("mlops-drift://e", at, extra=report | changes, emitted_by="d/r/t").id

    assert told(AT) == told(LATER) == told(AT, n_predictions=9)
    assert told(AT) != told(AT, window_end="c")
    assert told(AT, window_end=None) != told(LATER, window_end=None)


def test_a_demand_knows_who_and_with_what():
    event = demand("dag/run", AT, by="Ada", conf={"month": "2013-02"})
    assert (event.kind, event.by) == ("demand", "Ada")
    assert event.evidence == {"params": {"month": "2013-02"}}


def test_another_dag_may_ask_with_an_event_of_its_own():
    asked = demand("alerts/run", AT, by="Ada", conf={})
    assert demand("dag/run", LATER, by="nobody", conf={REQUEST: asked.to_xcom()}) == asked
    with pytest.raises(RecordError, match="RetrainingEvent"):
        demand("dag/run", AT, by="nobody", conf={REQUEST: {"kind": "sunshine"}})


def test_a_schedule_tells_its_interval():
    event = schedule("dag/run", AT, start=None, end=AT)
    assert event.kind == "schedule"
    assert event.evidence == {"data_interval_start": None, "data_interval_end": AT}


def test_evidence_is_bounded_and_loses_its_tables_before_its_reasons():
    evidence = {
        "drift": {"features": [{"feature": "x" * 250, "value": float("nan")}] * 100},
        "reasons": ["y" * 1000],
        "deep": [[[[[1]]]]],
        "n": 3,
    }
    cut = bounded(evidence)
    assert len(json.dumps(cut, allow_nan=False)) <= 4_100
    assert cut["n"] == 3
    assert len(cut["reasons"][0]) == 300
    assert "drift" not in cut or len(cut["drift"]["features"]) == 10


def test_small_evidence_stays_whole():
    evidence = {"a": [1, True, None], "b": {"c": 0.5}}
    assert bounded(evidence) == evidence
