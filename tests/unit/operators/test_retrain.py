from __future__ import annotations

from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.retrain import (
    DecideRetrainingOperator,
    RecordRetrainingOperator,
    started_by,
)
from airflow_mlops_provider.records import GateVerdict
from airflow_mlops_provider.steps.retrain.ledger import Ledger

MOMENT = datetime(2013, 7, 1, 12, tzinfo=UTC)
LOCK = "airflow_mlops_provider.steps.promotion_lock.promotion_lock"


def emitted(uri, extra=None, at=MOMENT):
    return SimpleNamespace(
        asset=SimpleNamespace(uri=uri),
        timestamp=at,
        extra=extra,
        source_dag_id="level1_monitoring",
        source_run_id="r",
        source_task_id="monitor",
    )


def dag_run(kind="manual", **changes):
    return SimpleNamespace(
        **{
            "run_type": SimpleNamespace(value=kind),
            "run_after": MOMENT,
            "conf": {},
            "triggering_user_name": "Ada" if kind == "manual" else None,
            "data_interval_start": None,
            "data_interval_end": None,
            "consumed_asset_events": [],
            **changes,
        }
    )


@pytest.fixture
def context(context):
    return context | {"dag_run": dag_run()}


@pytest.fixture(autouse=True)
def alone():
    """Nobody else decides at the same time."""
    with patch(LOCK, return_value=nullcontext()) as lock:
        yield lock


@pytest.fixture
def decide(workspace):
    with DAG("a_dag"):
        operator = DecideRetrainingOperator(task_id="decide", name="delay", budget="1")
        work = MlopsOperator(task_id="train")
        end = MlopsOperator(task_id="record").as_teardown()
        operator >> [work, end]
    return operator


@pytest.fixture(autouse=True)
def mlflow_run(run):
    run.pipeline_id = "pipeline"
    run.client.get_run.return_value.data.tags = {}


def tags(run):
    return {call.args[1]: call.args[2] for call in run.client.set_tag.call_args_list}


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, ["demand"]),
        ({"kind": "asset_materialization"}, ["demand"]),
        ({"kind": "scheduled"}, ["schedule"]),
        ({"kind": "backfill"}, ["schedule"]),
        ({"kind": "operator_triggered"}, ["schedule"]),
        ({"kind": "asset_triggered"}, ["schedule"]),
        (
            {
                "kind": "asset_triggered",
                "consumed_asset_events": [
                    emitted("mlops-drift://e"),
                    emitted("mlops-performance://e"),
                    emitted("new_flights"),
                ],
            },
            ["drift", "performance", "new_data"],
        ),
    ],
)
def test_the_way_a_run_came_about_tells_its_events(context, changes, kinds):
    events = started_by(context | {"dag_run": dag_run(**changes)})
    assert [event.kind for event in events] == kinds


@pytest.mark.parametrize(("kind", "told"), [("backfill", "schedule"), ("manual", "demand")])
def test_what_happened_since_is_nothing_to_a_run_that_no_asset_started(context, kind, told):
    inlet = MagicMock()
    inlet.after.return_value.limit.return_value = [emitted("new_flights")]
    run = dag_run(kind, run_after=datetime(2013, 3, 1, tzinfo=UTC))
    events = started_by(context | {"dag_run": run, "inlet_events": {"new_flights": inlet}})
    assert [event.kind for event in events] == [told]


def test_a_person_is_named_with_what_was_asked_for(context):
    run = dag_run(conf={"month": "2013-02", "password": "hidden"})
    (event,) = started_by(context | {"dag_run": run})
    assert event.by == "Ada"
    assert event.evidence["params"]["month"] == "2013-02"
    assert "hidden" not in str(event.evidence)


def test_a_dag_that_asks_for_a_person_brings_its_event(context):
    (asked,) = started_by(context)
    run = dag_run("operator_triggered", conf={"retraining_event": asked.to_xcom()})
    assert started_by(context | {"dag_run": run}) == [asked]


def test_events_that_came_since_the_run_was_made_are_found_and_none_counts_twice(context):
    first = emitted("mlops-drift://e")
    second = emitted("mlops-drift://e", at=MOMENT.replace(minute=1))
    inlet = MagicMock()
    inlet.after.return_value.limit.return_value = [first, second]
    asset = Asset("mlops-drift://e")
    run = dag_run("asset_triggered", consumed_asset_events=[first])
    events = started_by(context | {"dag_run": run, "inlet_events": {asset: inlet}})
    assert [event.at for event in events] == [
        "2013-07-01T12:00:00+00:00",
        "2013-07-01T12:01:00+00:00",
    ]
    inlet.after.assert_called_once_with("2013-07-01T12:00:00+00:00")


def test_a_run_that_trains_says_on_which_event_with_which_evidence(context, run, decide):
    context["dag_run"] = dag_run(
        "asset_triggered",
        consumed_asset_events=[emitted("mlops-drift://e", {"reasons": ["distance moved"]})],
    )
    record = decide.execute(context)
    assert record["decision"] == "train"
    assert record["event"]["evidence"] == {"reasons": ["distance moved"]}
    assert "distance moved" in run.log_page.call_args.args[0]
    assert "distance moved" in tags(run)["mlflow.note.content"]
    assert tags(run)["mlops.retraining.event"] == "drift"
    assert tags(run)["mlops.retraining.decision"] == "train"
    assert {call.args[0] for call in run.client.set_tag.call_args_list} == {"pipeline"}


def test_a_decision_not_to_train_skips_the_work_but_not_the_teardown(context, run, decide):
    context["dag_run"] = dag_run("scheduled")
    decide.execute(context)
    context["ti"].run_id = "another_run"
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        decide.execute(context)
    assert skipped.value.tasks == ["train"]
    pushed = [call.kwargs for call in context["ti"].xcom_push.call_args_list]
    records = [each["value"] for each in pushed if each["key"] == "return_value"]
    assert [record["decision"] for record in records] == ["train", "skip"]
    assert tags(run)["mlops.retraining.reason"] == (
        "budget: 1 trainings within 30 days, 0:00:00, 1 are allowed"
    )


def test_a_retry_keeps_its_decision_and_its_note(context, run, decide, workspace):
    run.client.get_run.return_value.data.tags = {"mlflow.note.content": "DAG run x"}
    first = decide.execute(context)
    run.client.get_run.return_value.data.tags = {
        "mlflow.note.content": tags(run)["mlflow.note.content"]
    }
    assert decide.execute(context) == first
    note = tags(run)["mlflow.note.content"]
    assert note.startswith("DAG run x")
    assert note.count("### Retraining") == 1
    assert len(Ledger(workspace, "delay").trainings()) == 1


def test_one_run_decides_at_a_time(context, run, decide, alone):
    held = []

    @contextmanager
    def lock(client, name):
        held.append(name)
        yield

    alone.side_effect = lock
    decide.execute(context)
    assert held == ["retraining-delay"]


def test_a_policy_that_makes_no_sense_fails_for_good(context, run, workspace):
    operator = DecideRetrainingOperator(task_id="t", name="delay", cooldown_seconds="-1")
    with pytest.raises(AirflowFailException, match="cooldown_seconds"):
        operator.execute(context)


@pytest.fixture
def states(context):
    def ended(**tasks):
        context["ti"].get_task_states.return_value = {"a_run": tasks}

    ended(train="success")
    return ended


@pytest.mark.parametrize(
    ("outcome", "ended", "kept"),
    [
        ("keep_champion", {}, "not_better"),
        (None, {"train": "failed"}, "failed"),
        (None, {"train": "skipped"}, "stopped"),
    ],
)
def test_what_came_of_a_training_is_kept(
    context, run, decide, states, workspace, outcome, ended, kept
):
    decision = decide.execute(context)
    states(**ended)
    verdict = outcome and GateVerdict(
        outcome=outcome, challenger_uri="m", champion_uri=None, reasons=[]
    )
    operator = RecordRetrainingOperator(
        task_id="record", decision=decision, verdict=verdict and verdict.to_xcom()
    )
    assert operator.execute(context)["outcome"] == kept
    assert Ledger(workspace, "delay").trainings()[0].outcome == kept
    assert tags(run)["mlops.retraining.outcome"] == kept


def test_a_registered_version_is_kept(context, run, decide, states, version, workspace):
    operator = RecordRetrainingOperator(
        task_id="record", decision=decide.execute(context), model_version=version()
    )
    assert operator.execute(context)["model_uri"] == "models:/delay/2"


def test_where_nothing_was_trained_nothing_is_kept(context, run, decide, workspace):
    decision = decide.execute(context) | {"decision": "skip"}
    assert RecordRetrainingOperator(task_id="a", decision=decision).execute(context) is None
    assert RecordRetrainingOperator(task_id="b", decision=None).execute(context) is None
    assert Ledger(workspace, "delay").outcomes() == []
