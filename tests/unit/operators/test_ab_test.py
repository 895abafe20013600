from __future__ import annotations

import inspect
import re
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlops_provider.operators import experiment
from airflow_mlops_provider.operators.ab_test import ABTestOperator
from airflow_mlops_provider.operators.bandit import BanditRolloutOperator
from airflow_mlops_provider.operators.rollout import base
from airflow_mlops_provider.records import ABTestVerdict, BanditVerdict
from airflow_mlops_provider.steps.experiment.bandit_plan import BanditPlan
from airflow_mlops_provider.steps.experiment.plan import ABTestPlan, Question
from airflow_mlops_provider.steps.rollout.drive import tick
from airflow_mlops_provider.triggers.rollout import RolloutTrigger
from tests.experiments import START, LoggingTarget
from tests.serving_fake import version

NOT_OF_THE_PLAN = {"kind", "candidate", "model_uri", "question", "arms", "ready_timeout_seconds"}


@pytest.fixture
def clock(monkeypatch):
    """The time that operators see; moved by hand."""
    clock = MagicMock(now=START)
    clock.time.side_effect = lambda: clock.now
    for module in (base, experiment):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def target(tmp_path, monkeypatch):
    made = LoggingTarget().start(tmp_path / "serving" / "logs" / "e")
    monkeypatch.setattr(
        base, "ServingHook", MagicMock(return_value=MagicMock(get_conn=lambda: made))
    )
    return made


@pytest.fixture
def ab_test(target, tmp_path):
    def make(**changes):
        arguments = {
            "endpoint": "e",
            "candidate": version("2").to_xcom(),
            "outcomes": lambda start, end: target.rows(start.timestamp(), end.timestamp()),
            "min_effect": 0.3,
            "unit": "request",
            "look_seconds": "60",
            "bake_seconds": 0,
            "workspace": str(tmp_path),
        }
        return ABTestOperator(task_id="t", **{**arguments, **changes})

    return make


def verdict(**changes):
    fields = {
        "endpoint": "e",
        "champion": "v1",
        "candidate": "v2",
        "state": "SUCCEEDED",
        "finding": "better",
        "reason": "v2 is better",
        "looks": 3,
        "figures": {"champion_exposed": 10, "candidate_exposed": 12},
        "steps": [],
    }
    return ABTestVerdict.from_xcom(fields | changes)


def bandit_verdict(**changes):
    fields = {
        "endpoint": "e",
        "champion": "v1",
        "candidate": "v2",
        "state": "SUCCEEDED",
        "finding": "best",
        "reason": "v2 is the best",
        "looks": 3,
        "weights": {"v1": 5, "v2": 95},
        "probabilities": {"v1": 0.01, "v2": 0.99},
        "rewards": {},
    }
    return BanditVerdict.from_xcom(fields | changes)


def served(target, clock, means):
    """Let time pass in which requests are served and the triggerer ticks."""

    def pass_on(seconds):
        target.play(clock.now, 60, means)
        clock.now += seconds

    return pass_on


def test_a_waiting_worker_looks_and_ticks_to_the_end(ab_test, target, clock, context, run):
    clock.sleep.side_effect = served(target, clock, {"v1": 1.0, "v2": 1.6})
    record = ab_test().execute(context)
    assert (record["state"], record["finding"]) == ("SUCCEEDED", "better")
    assert target.traffic == {"v2": 100}
    assert target.rotated == record["looks"] > 0
    run.log_record.assert_called_once()


def test_a_look_runs_in_a_worker_and_then_the_task_waits_again(
    ab_test, target, clock, context, run
):
    operator = ab_test(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    assert isinstance(deferred.value.trigger, RolloutTrigger)
    plan = operator._plan()
    for _ in range(8):
        served(target, clock, {"v1": 1.0, "v2": 1.0})(15)
        state = tick(target, "e", plan, clock.now)
    assert state.for_worker
    assert target.rotated == 0
    with pytest.raises(TaskDeferred):
        operator.execute_complete(context, {"for_worker": True})
    assert target.rotated == 1
    assert target.rollout["looks"] == 1
    run.log_record.assert_not_called()


def test_a_host_that_goes_away_during_a_look_is_left_to_the_driver(
    ab_test, target, clock, context, run
):
    operator = ab_test(deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(context)
    plan = operator._plan()
    for _ in range(8):
        served(target, clock, {"v1": 1.0, "v2": 1.0})(15)
        state = tick(target, "e", plan, clock.now)
    target.down = True
    assert operator._work(target, plan, state) is state


def test_the_page_is_linked_before_anything_can_go_wrong(ab_test, context, run):
    with pytest.raises(AirflowFailException):
        ab_test(split=0).execute(context)
    context["ti"].xcom_push.assert_called_once_with(key="rollout_url", value="/mlops/rollouts/e")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"outcomes": None}, "exactly one of outcomes and sql"),
        ({"sql": "SELECT 1"}, "exactly one of outcomes and sql"),
        ({"outcomes": None, "sql": "SELECT 1"}, "conn_id"),
        ({"outcomes": "no.such.function"}, "outcomes"),
        ({"candidate": "v2"}, "ModelVersionRef"),
        ({"min_effect": None}, "min_effect"),
    ],
)
def test_a_wrong_argument_fails_before_anything_moves(ab_test, target, context, arguments, named):
    with pytest.raises(AirflowFailException, match=named):
        ab_test(**arguments).execute(context)
    assert target.rollout is None


def test_outcomes_may_come_from_a_database(ab_test, monkeypatch):
    import pyarrow as pa

    from airflow_mlops_provider.hooks import sql

    asked = []

    def query(conn_id, statement, parameters):
        asked.append((conn_id, statement, parameters["start"].timestamp()))
        yield pa.table({"entity_id": ["a"], "ts": ["2026-01-01T00:00:00Z"], "value": [1]})

    monkeypatch.setattr(sql, "stream_query", query)
    operator = ab_test(outcomes=None, sql="SELECT * FROM sales WHERE ts > :start", conn_id="db")
    found = operator._outcomes(START, START + 60)
    assert found["entity_id"].tolist() == ["a"]
    assert asked == [("db", "SELECT * FROM sales WHERE ts > :start", START)]


@pytest.mark.parametrize(
    ("changes", "on_win"),
    [
        ({}, "promote"),
        ({"state": "ROLLED_BACK"}, "report"),
        ({"state": "ROLLED_BACK", "finding": "worse"}, "promote"),
        ({"state": "ROLLED_BACK", "finding": "inconclusive"}, "promote"),
    ],
)
def test_an_answer_is_a_success(ab_test, context, run, changes, on_win):
    event = {"verdict": verdict(**changes).to_xcom()}
    assert ab_test(on_win=on_win).execute_complete(context, event) == event["verdict"]


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"state": "ROLLED_BACK", "finding": "invalid"}, "loses their outcomes"),
        ({"state": "ROLLED_BACK", "finding": "stopped"}, "Mend what stopped it"),
        ({"state": "ROLLBACK_FAILED", "finding": "worse"}, "endpoint's traffic"),
        ({"state": "PAUSED", "finding": "stopped"}, "Mend what stopped it"),
        ({"state": "ROLLED_BACK", "finding": "better"}, "endpoint's traffic"),
    ],
)
def test_no_answer_fails_for_good_after_keeping_the_verdict(ab_test, context, run, changes, remedy):
    ended = verdict(**changes)
    with pytest.raises(AirflowFailException, match=remedy):
        ab_test().execute_complete(context, {"verdict": ended.to_xcom()})
    context["ti"].xcom_push.assert_called_once_with(key="return_value", value=ended.to_xcom())


def test_a_bandit_defers_with_its_arms(target, tmp_path, context, clock):
    target.create_deployment("e", "v2", "models:/m/2")
    operator = BanditRolloutOperator(
        task_id="t",
        endpoint="e",
        deployments=["v1", "v2"],
        outcomes=target.rows,
        deferrable=True,
        workspace=str(tmp_path),
        seed="run",
    )
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    assert deferred.value.trigger.plan["arms"] == ("v1", "v2")
    assert target.traffic == {"v1": 50, "v2": 50}


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({}, False),
        ({"state": "ROLLED_BACK", "finding": "undecided"}, False),
        ({"state": "ROLLED_BACK", "finding": "stopped"}, True),
        ({"state": "PAUSED", "finding": "best"}, True),
    ],
)
def test_only_a_bandit_that_was_stopped_fails(context, run, changes, fails):
    operator = BanditRolloutOperator(task_id="t", endpoint="e", deployments=[], outcomes="a.csv")
    event = {"verdict": bandit_verdict(**changes).to_xcom()}
    if not fails:
        assert operator.execute_complete(context, event) == event["verdict"]
        return
    with pytest.raises(AirflowFailException, match="ended"):
        operator.execute_complete(context, event)


@pytest.mark.parametrize(
    ("operator", "plans"),
    [(ABTestOperator, (ABTestPlan, Question)), (BanditRolloutOperator, (BanditPlan,))],
)
def test_the_defaults_are_those_of_the_plan(operator, plans):
    defaults = inspect.signature(operator.__init__).parameters
    for plan in plans:
        for name, knob in plan.__dataclass_fields__.items():
            if name not in NOT_OF_THE_PLAN | {"seed", "options"}:
                assert defaults[name].default == knob.default, name


def test_what_the_page_shows_can_be_written():
    page = (Path(__file__).resolve().parents[3] / "docs" / "ab-tests.md").read_text()
    names = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)  # noqa: S102 - our own page
    assert isinstance(names["ab_test"], ABTestOperator)
    assert isinstance(names["bandit"], BanditRolloutOperator)
    assert names["ab_test"].upstream_task_ids == {"candidate"}
